"""What is required where and when, and what becomes of it on the way from a written policy to an episode."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest
import scenes

from pipeline import policy
from pipeline.flow import Flow
from pipeline.messages import Episode, Faces, Frame, Hours, Policy, Rule, Zone
from pipeline.policy import ALWAYS, BadPolicy, Written
from pipeline.settings import Settings

LEFT, RIGHT = (Zone("desk", ((0, 0), (0.5, 0), (0.5, 1), (0, 1))), Zone("ward", ((0.5, 0), (1, 0), (1, 1), (0.5, 1))))
DAY = Hours((1, 2, 3, 4, 5), "07:00", "19:00")


def at(text: str, zone: str = "Asia/Shanghai") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1e6)


def in_force(hours: Hours, text: str, zone: str = "Asia/Shanghai") -> bool:
    return policy.applies(Rule(hours=(hours,)), zone, at(text, zone))


def test_without_a_policy_a_mask_is_required_everywhere_and_always() -> None:
    assert policy.demand(None, "", 0) == policy.demand(Policy(zones=(LEFT,)), "desk", 0) == ALWAYS
    assert ALWAYS.breach == ("none", "incorrect")


def test_hours_hold_by_the_wall_clock_of_the_site() -> None:
    # 2026-11-23 is a Monday
    assert in_force(DAY, "2026-11-23T07:00")
    assert in_force(DAY, "2026-11-23T18:59:59")
    assert not in_force(DAY, "2026-11-23T19:00")
    assert not in_force(DAY, "2026-11-22T12:00")
    midnight = at("2026-11-23T00:00", "UTC")
    assert policy.applies(Rule(hours=(DAY,)), "Asia/Shanghai", midnight)
    assert not policy.applies(Rule(hours=(DAY,)), "UTC", midnight)


def test_a_night_shift_belongs_to_the_day_on_which_it_begins() -> None:
    night = Hours((5,), "22:00", "06:00")  # Friday night
    assert in_force(night, "2026-11-27T22:00")
    assert in_force(night, "2026-11-28T05:59")
    assert not in_force(night, "2026-11-28T06:00")
    assert not in_force(night, "2026-11-27T05:00")
    assert not in_force(night, "2026-11-28T22:30")
    whole = Hours((7,), "00:00", "24:00")
    assert in_force(whole, "2026-11-29T00:00")
    assert in_force(whole, "2026-11-29T23:59")
    assert not in_force(whole, "2026-11-30T00:00")
    round_the_clock = Hours((7,), "08:00", "08:00")
    assert in_force(round_the_clock, "2026-11-30T07:59")
    assert not in_force(round_the_clock, "2026-11-30T08:00")


def test_daylight_saving_moves_the_hours_with_the_clock_on_the_wall() -> None:
    """Berlin: on 29 March 2026 the hour from 2 to 3 is left out, on 25 October it comes twice."""
    early = Hours(begin="02:00", end="04:00")

    def minutes(day: str) -> int:
        start = at(f"{day}T00:00", "Europe/Berlin")
        return sum(policy.applies(Rule(hours=(early,)), "Europe/Berlin", start + i * 60_000_000)
                   for i in range(6 * 60))

    assert (minutes("2026-03-28"), minutes("2026-03-29"), minutes("2026-10-25")) == (120, 60, 180)
    night = Hours((6,), "22:00", "06:00")
    assert in_force(night, "2026-03-29T05:59", "Europe/Berlin")
    assert not in_force(night, "2026-03-29T06:00", "Europe/Berlin")


def test_the_first_rule_that_applies_decides() -> None:
    lunch = Rule("lunch", hours=(Hours(begin="12:00", end="13:00"),), required="nothing")
    ward = Rule("ward", zone="ward", breach=("none",), grace=0.2, hours=(DAY,), except_roles=("patient",))
    rest = Rule("rest", grace=5.0, hours=(DAY,), except_hours=(Hours(begin="18:00", end="18:30"),))
    one = Policy("hall:1", "Asia/Shanghai", "nothing", (lunch, ward, rest), (LEFT, RIGHT))
    monday = "2026-11-23T"
    assert policy.demand(one, "ward", at(monday + "12:30")) is None
    assert policy.demand(one, "ward", at(monday + "10:00")) == (
        ("none",), 0.2, "hall:1", "ward", ("patient",), ())
    assert policy.demand(one, "desk", at(monday + "10:00")).grace == 5.0
    assert policy.demand(one, "desk", at(monday + "18:10")) is None
    assert policy.demand(one, "", at(monday + "22:00")) is None
    worn = msgspec.structs.replace(one, otherwise="worn")
    assert policy.demand(worn, "", at(monday + "22:00")) == ALWAYS._replace(version="hall:1")


def test_a_rule_for_some_roles_leaves_everybody_else_to_the_rules_after_it() -> None:
    nurse = Rule("nurses", roles=("nurse",), except_roles=("trainee",))
    cook = Rule("cooks", breach=("none",), grace=9.0, roles=("cook",))
    rest = Rule("rest", breach=("none",), except_roles=("guest",))

    def broken(state: str, *rules: Rule, otherwise: str = "nothing") -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        one = policy.broken(policy.demands(Policy("hall:1", otherwise=otherwise, rules=rules), "", 0), state)
        return (one.rule, one.roles, one.except_roles) if one else ("", (), ())

    assert broken("incorrect", nurse) == ("nurses", ("nurse",), ("trainee",))
    assert broken("worn", nurse) == ("", (), ())
    assert broken("none", nurse, cook) == ("nurses", ("nurse", "cook"), ("trainee",))  # whoever has either
    assert broken("incorrect", cook, nurse) == ("nurses", ("nurse",), ("trainee",))
    assert broken("none", nurse, rest) == ("rest", (), ("guest",))  # everybody breaks it, nurses too
    assert broken("incorrect", nurse, rest) == ("nurses", ("nurse",), ("trainee",))
    assert broken("incorrect", cook, otherwise="worn") == ("", (), ("cook",))  # their own rule allows it
    assert broken("none", nurse, Rule(required="nothing"), rest) == ("nurses", ("nurse",), ("trainee",))
    assert policy.demand(Policy("hall:1", otherwise="nothing", rules=(nurse, cook)), "", 0) is None
    assert policy.demand(Policy("hall:1", rules=(nurse, rest)), "", 0).rule == "rest"
    said = [fault.split(": ")[0] for fault in policy.faults(Written(rules=(
        Rule(roles=("nurse",), required="nothing"), Rule(roles=("nurse",), except_roles=("nurse",)),
        Rule(roles=("",)), nurse, cook)))]
    assert said == ["rules[0].roles", "rules[1].roles", "rules[2].roles"]


def test_a_face_is_in_the_first_zone_that_holds_its_middle() -> None:
    bent = Zone("bent", ((0, 0), (1, 0), (1, 1), (0.9, 1), (0.9, 0.1), (0, 0.1)))
    one = Policy(zones=(bent, LEFT))
    assert policy.zone(one, (600, 100, 640, 200), 640, 360) == "bent"
    assert policy.zone(one, (300, 10, 330, 40), 640, 360) == "bent"
    assert policy.zone(one, (300, 100, 330, 200), 640, 360) == "desk"
    assert policy.zone(one, (400, 100, 430, 200), 640, 360) == ""
    assert policy.zone(None, (0, 0, 1, 1), 640, 360) == ""


def test_with_a_camera_travels_only_what_concerns_it() -> None:
    rules = (Rule("a", ("door",)), Rule("b", zone="ward"), Rule("c"))
    written = Written("hall:2", "Asia/Shanghai", rules=rules)
    door, ward = policy.of_camera(written, "door"), policy.of_camera(written, "ward-cam", (RIGHT,))
    assert [rule.name for rule in door.rules] == ["a", "c"]
    assert door.rules[0].cameras == ()
    assert ([rule.name for rule in ward.rules], ward.zones) == (["b", "c"], (RIGHT,))
    assert policy.of_camera(None, "door") is None
    assert policy.of_camera(None, "door", (LEFT,)) == Policy(zones=(LEFT,))
    large = Written("hall:2", rules=tuple(Rule(f"rule {i}", zone="ward", hours=(DAY,)) for i in range(4)))
    assert len(msgspec.msgpack.encode(policy.of_camera(large, "door", (LEFT, RIGHT)))) < 1200  # bytes on every frame


def test_every_fault_is_named() -> None:
    wrong = Written(time_zone="Mars/Olympus", rules=(
        Rule(cameras=("gone",), zone="attic", breach=(), grace=-1.0,
             hours=(Hours((0, 8), "7:00", "25:00"), Hours(begin="24:00"))),
        Rule(name="x\0"), Rule(grace=float("nan")),
    ), zones={"door": (Zone("a", ((0, 0), (1, 1), (0.5, 0.5))), Zone("a", ((0, 0), (2, 0), (1, 1))))})
    said = [fault.split(": ")[0] for fault in policy.faults(wrong, {"door": ()})]
    assert said == [
        "time_zone", "zones.door", "zones.door", "zones.door", "rules[0].breach", "rules[0].grace",
        "rules[0].hours[0].days", "rules[0].hours[0].begin", "rules[0].hours[0].end", "rules[0].hours[1].begin",
        "rules[0].cameras", "rules[0].zone", "rules[1].name", "rules[2].grace",
    ]
    assert policy.faults(Written(rules=(Rule(zone="ward"),)), {"door": (LEFT, RIGHT)}) == []


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../UTC", "Asia/\0", "x" * 300, "Asia"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(BadPolicy, match="expected a time zone"):
        policy.zone_of(name)


def test_a_file_holds_a_policy_as_people_and_as_programs_write_it() -> None:
    text = """
    time_zone: Asia/Shanghai
    otherwise: nothing
    rules:
    - name: by day
      zone: ward
      grace: 2.5
      hours: [{days: [1, 2], begin: 7:00, end: 19:00}]
    zones:
      door: [{name: ward, outline: [[0, 0], [1, 0], [1, 1]]}]
    """
    with pytest.raises(BadPolicy, match=r"hours\[0\].begin: expected HH:MM"):
        policy.load(text)
    read = policy.load(text.replace("begin: 7:00", "begin: 07:00"))
    assert read.rules[0] == Rule("by day", zone="ward", grace=2.5, hours=(Hours((1, 2), "07:00", "19:00"),))
    assert policy.load(msgspec.json.encode(read).decode()) == read
    for bad in ("[", "rules: 5", "otherwise: perhaps"):
        with pytest.raises(BadPolicy, match="expected a policy"):
            policy.load(bad)


# -- in the stream --------------------------------------------------------------------------------------------------


def episodes(frames: list[Frame], settings: Settings) -> list[Episode]:
    told = [r.message for r in Flow(settings, scenes.Models()).run(frames) if r.topic == "episodes"]
    return list({e.id: e for e in told}.values())


def under(frames: list[Frame], one: Policy | None) -> list[Frame]:
    return [msgspec.structs.replace(frame, policy=one) for frame in frames]


def crossing(state: str = "none") -> list[Frame]:
    """Somebody crosses the picture from left to right in six seconds."""
    return scenes.walk("door", 0, 6, 1, lambda t: state)


def test_an_episode_opens_by_the_rule_of_the_zone_after_its_grace(plain: Settings) -> None:
    ward = Policy("hall:1", otherwise="nothing", rules=(Rule("ward", zone="ward", grace=0.5),), zones=(LEFT, RIGHT))
    (one,) = episodes(under(crossing(), ward), plain)
    assert (one.policy, one.rule, one.zone, one.state) == ("hall:1", "ward", "ward", "none")
    assert 2_500_000 < one.start - scenes.START < 3_500_000  # half way through
    assert episodes(under(crossing(), msgspec.structs.replace(
        ward, rules=(Rule("ward", zone="ward", grace=4.0),))), plain) == []
    (before,) = episodes(crossing(), plain)
    assert (before.policy, before.rule, before.zone) == ("", "", "")
    assert before.start - scenes.START < 1_000_000
    zones = [(f.zone, f.box[0] + 32 < 320) for m in Flow(plain, scenes.Models()).run(under(crossing(), ward))
             if m.topic == "faces" for f in m.message.faces]
    assert {zone for zone, left in zones if left} == {"desk"}
    assert {zone for zone, left in zones if not left} == {"ward"}


def test_who_walks_into_an_exempt_zone_is_no_longer_in_breach(plain: Settings) -> None:
    exempt = Policy("hall:1", rules=(Rule("canteen", zone="ward", required="nothing"),), zones=(LEFT, RIGHT))
    (one,) = episodes(under(crossing(), exempt), plain)
    assert (one.status, one.reason, one.zone, one.policy) == ("closed", "not required", "desk", "hall:1")
    assert one.end - scenes.START < 3_500_000


def test_what_everybody_breaks_takes_an_episode_over_that_was_of_some_roles_alone(plain: Settings) -> None:
    """The left half of the picture is the nurses', in the right one a mask is required of everybody."""
    def told(*rules: Rule) -> list[Episode]:
        one = Policy("hall:1", otherwise="nothing", rules=rules, zones=(LEFT, RIGHT))
        return episodes(under(crossing(), one), plain)

    nurses = Rule("nurses", zone="desk", roles=("nurse",), grace=0.5)
    (alone,) = told(nurses)
    assert (alone.rule, alone.roles, alone.zone, alone.reason) == ("nurses", ("nurse",), "desk", "not required")
    (both,) = told(nurses, Rule("ward", zone="ward", grace=1.0))
    assert (both.id, both.rule, both.roles, both.zone) == (alone.id, "ward", (), "ward")
    (short,) = told(nurses, Rule("ward", zone="ward", grace=4.0))  # too short for everybody
    assert (short.rule, short.roles, short.looks) == ("nurses", ("nurse",), both.looks)
    # the other way: what everybody has broken ends where only nurses are asked for anything
    first, then = told(Rule("ward", zone="ward", roles=("nurse",), grace=0.5), Rule("desk", zone="desk", grace=0.5))
    assert (first.rule, first.roles, first.reason, then.rule, then.roles) == ("desk", (), "not required", "ward",
                                                                               ("nurse",))
    assert first.end < then.start


def test_exempt_hours_and_a_state_that_is_allowed_open_nothing(plain: Settings) -> None:
    off = Policy("hall:1", otherwise="nothing", rules=(Rule(hours=(Hours((1,), "00:00", "00:01"),)),))
    assert episodes(under(crossing(), off), plain) == []
    allowed = Policy("hall:1", rules=(Rule(breach=("none",)),))
    assert len(episodes(under(crossing("incorrect"), None), plain)) == 1
    assert episodes(under(crossing("incorrect"), allowed), plain) == []


def test_a_policy_that_changes_in_the_middle_judges_from_there(plain: Settings) -> None:
    nothing = Policy("hall:1", otherwise="nothing")
    worn = Policy("hall:2", otherwise="worn")
    frames = under(crossing()[:15], nothing) + under(crossing()[15:], worn)
    (one,) = episodes(frames, plain)
    assert (one.policy, one.start - scenes.START) == ("hall:2", 3_000_000)


def test_without_a_policy_faces_say_what_they_said(plain: Settings) -> None:
    """A record of before differs only by what its new fields are when nothing is said."""
    for record in Flow(plain, scenes.Models()).run(crossing()):
        if isinstance(record.message, Faces):
            assert record.message.policy is None
            assert {face.zone for face in record.message.faces} <= {""}
