"""Routes over cameras and episodes, from looks written by hand."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from pipeline import trajectory
from pipeline.messages import Episode, Face, Faces, Trajectory
from pipeline.settings import Settings

START = 1_700_000_000_000_000
PLACES = {"door": (0.0, 0.0), "hall": (15.0, 0.0), "ward": (30.0, 0.0)}


def person(number: int, noise: float = 0.6) -> Callable[[int], tuple[float, ...]]:
    """Embeddings of one person: unit vectors that lie around `number`'s own, cosine about 1 / (1 + noise²)."""
    own = np.random.default_rng(number).normal(size=128)
    own /= np.linalg.norm(own)

    def look(i: int) -> tuple[float, ...]:
        other = np.random.default_rng(1000 * number + i).normal(size=128)
        vector = own + noise * other / np.linalg.norm(other)
        return tuple((vector / np.linalg.norm(vector)).tolist())

    return look


def visit(camera: str, start: float, seconds: float, who: Callable | None,
          state: Callable[[float], str] = lambda t: "worn", track: str = "", fps: float = 5, site: str = "site",
          privacy: str = "pseudonymous") -> list[Faces]:
    """Somebody is in the picture for a while; then the track is gone."""
    told = []
    name = track or f"{camera}@{START + round(start * 1e6)}#0"
    for i in range(round(seconds * fps)):
        at = START + round((start + i / fps) * 1e6)
        now = state(i / fps)
        face = Face(f"{camera}@{at}#0", (100 + 5 * i, 100, 150 + 5 * i, 160), 0.9, (0.0,) * 10, now, 0.9, name, now,
                    0.95, 0.7, b"jpeg" if i % 3 == 0 else b"", embedding=who(i) if who and i % 3 == 0 else ())
        told.append(Faces(camera, at, f"{camera}@{at}", site, faces=(face,), place=PLACES.get(camera), privacy=privacy))
    told.append(empty(camera, start + seconds + 2.6, gone=(name,), site=site))
    return told


def empty(camera: str, seconds: float, gone: tuple[str, ...] = (), ended: bool = False, site: str = "site") -> Faces:
    at = START + round(seconds * 1e6)
    return Faces(camera, at, f"{camera}@{at}", site, gone=gone, ended=ended, place=PLACES.get(camera))


def run(messages: list[Faces], settings: Settings) -> tuple[trajectory.Site, list]:
    site, told = None, []
    for message in sorted(messages, key=lambda m: (m.at, m.camera)):
        site, out = trajectory.step(site, message, settings)
        told += out
    assert site is not None
    return site, told


def newest(told: list, kind: type) -> list:
    return list({m.id: m for m in told if isinstance(m, kind)}.values())


def test_somebody_who_walks_on_is_one_route_with_a_gap(plain: Settings) -> None:
    anna = person(1)
    _, told = run(visit("door", 0, 3, anna) + visit("hall", 14, 3, anna) + visit("ward", 30, 3, anna), plain)
    (route,) = newest(told, Trajectory)
    assert [leg.camera for leg in route.legs] == ["door", "hall", "ward"]
    assert [gap.metres for gap in route.gaps] == [15, 15]
    assert all(gap.probability > 0.9 for gap in route.gaps)
    assert route.start == START
    assert route.gaps[0].start == route.legs[0].end
    assert route.gaps[0].end == route.legs[1].start == START + 14_000_000
    assert route.legs[0].seconds == {"worn": 2.8}


def test_somebody_else_is_another_route(plain: Settings) -> None:
    _, told = run(visit("door", 0, 3, person(1)) + visit("hall", 14, 3, person(2)), plain)
    assert sorted(len(route.legs) for route in newest(told, Trajectory)) == [1, 1]


def test_nobody_walks_fifteen_metres_in_two_seconds(plain: Settings) -> None:
    anna = person(1)
    _, told = run(visit("door", 0, 3, anna) + visit("hall", 5, 3, anna), plain)
    assert len(newest(told, Trajectory)) == 2


def test_nobody_is_in_two_distant_places_at_once(plain: Settings) -> None:
    anna = person(1)
    _, told = run(visit("door", 0, 20, anna) + visit("ward", 10, 3, anna), plain)
    assert len(newest(told, Trajectory)) == 2


def test_two_who_look_alike_are_not_guessed_between(plain: Settings) -> None:
    anna = person(1)
    _, told = run(visit("door", 0, 3, anna) + visit("door", 4, 3, anna, track="twin")
                  + visit("hall", 20, 3, anna), Settings(audit=0, walk=2.5))
    routes = newest(told, Trajectory)
    assert [leg.camera for route in routes for leg in route.legs].count("hall") == 1
    assert len([r for r in routes if any(leg.camera == "hall" for leg in r.legs) and len(r.legs) > 1]) <= 1


def test_a_track_lost_for_a_moment_is_the_same_person_even_without_a_good_look(plain: Settings) -> None:
    first, second = visit("door", 0, 3, None), visit("door", 4.5, 3, None, track="again")
    moved = [msgspec.structs.replace(m, faces=tuple(
        msgspec.structs.replace(f, box=tuple(v + 70 * (i % 2 == 0) for i, v in enumerate(f.box))) for f in m.faces))
        for m in second]
    _, told = run(first[:-1] + moved, plain)
    (route,) = newest(told, Trajectory)
    assert len(route.legs) == 2


def test_an_anonymous_site_joins_nobody(plain: Settings) -> None:
    _, told = run(visit("door", 0, 3, person(1), privacy="anonymous")
                  + visit("hall", 14, 3, person(1), privacy="anonymous"), plain)
    assert len(newest(told, Trajectory)) == 2


def test_one_look_is_nobody(plain: Settings) -> None:
    _, told = run(visit("door", 0, 0.2, person(1), lambda t: "none"), plain)
    assert told == []


def test_an_episode_opens_after_grace_goes_on_over_cameras_and_closes_when_the_mask_is_on(plain: Settings) -> None:
    anna = person(1)
    _, told = run(visit("door", 0, 4, anna, lambda t: "none")
                  + visit("hall", 14, 6, anna, lambda t: "none" if t < 3 else "worn"), plain)
    episodes = [m for m in told if isinstance(m, Episode)]
    assert {e.id for e in episodes} == {episodes[0].id}
    assert episodes[0].status == "open"
    assert episodes[0].end - episodes[0].start >= 1_000_000
    last = episodes[-1]
    assert (last.status, last.reason, last.state, last.cameras) == ("closed", "mask on", "none", ("door", "hall"))
    assert (last.start, last.end) == (START, START + 16_800_000)
    assert last.person == newest(told, Trajectory)[0].id
    assert len(last.evidence) == 3
    assert all(e.picture == b"jpeg" for e in last.evidence)


def test_a_mask_below_the_nose_is_an_episode_of_its_kind_and_none_is_worse(plain: Settings) -> None:
    _, told = run(visit("door", 0, 4, person(1), lambda t: "incorrect"), plain)
    assert newest(told, Episode)[0].state == "incorrect"
    _, told = run(visit("door", 0, 6, person(1), lambda t: "incorrect" if t < 3 else "none"), plain)
    assert newest(told, Episode)[0].state == "none"


def test_a_short_slip_is_no_episode(plain: Settings) -> None:
    _, told = run(visit("door", 0, 6, person(1), lambda t: "none" if 2 <= t < 2.8 else "worn"), plain)
    assert newest(told, Episode) == []


def test_who_cannot_be_judged_is_never_a_breach(plain: Settings) -> None:
    _, told = run(visit("door", 0, 6, person(1), lambda t: "unknown"), plain)
    assert newest(told, Episode) == []


def test_out_of_sight_closes_an_episode_when_somebody_else_moves_the_clock(plain: Settings) -> None:
    messages = visit("door", 0, 4, person(1), lambda t: "none") + [empty("hall", s) for s in (10, 20, 24)]
    _, told = run(messages, plain)
    (episode,) = newest(told, Episode)
    assert (episode.status, episode.reason, episode.end) == ("closed", "out of sight", START + 3_800_000)


def test_the_end_of_the_stream_closes_what_is_open(plain: Settings) -> None:
    messages = [*visit("door", 0, 4, person(1), lambda t: "none")[:-1], empty("door", 4, ended=True)]
    site, told = run(messages, plain)
    (episode,) = newest(told, Episode)
    assert (episode.status, episode.reason) == ("closed", "stream ended")
    assert site.ended == ("door",)
    assert site.tracks == {}


def test_an_anonymous_episode_has_a_time_and_a_place_and_no_picture(plain: Settings) -> None:
    _, told = run(visit("door", 0, 4, person(1), lambda t: "none", privacy="anonymous"), plain)
    (episode,) = newest(told, Episode)
    assert [e.picture for e in episode.evidence] == [b""]


def test_who_is_not_expected_back_is_closed_and_forgotten(plain: Settings) -> None:
    site, told = run([*visit("door", 0, 4, person(1)), empty("hall", 400)], plain)
    assert newest(told, Trajectory)[0].closed
    assert site.people == {}


def test_a_message_handled_twice_changes_nothing(plain: Settings) -> None:
    messages = visit("door", 0, 4, person(1), lambda t: "none")
    site, _ = run(messages, plain)
    assert trajectory.step(site, messages[5], plain) == (site, [])


def test_a_phone_photo_is_nobodys_route(plain: Settings) -> None:
    photo = msgspec.structs.replace(visit("round-1", 0, 1, person(1))[0], source="inspection")
    assert run([photo], plain) == (trajectory.Site(), [])
    assert trajectory.release(None, [photo], came(hall=0), plain) == []


# -- the order in which a site's messages are folded


def came(**seconds: float) -> trajectory.Arrivals:
    """Cameras and when their newest message came."""
    arrivals = trajectory.Arrivals()
    for camera, second in sorted(seconds.items(), key=lambda pair: pair[1]):
        arrivals.hear(camera, START + round(second * 1e6))
    return arrivals


def test_messages_are_released_by_their_own_time_whoever_is_faster(plain: Settings) -> None:
    door, hall = visit("door", 0, 5, person(1)), visit("hall", 0.05, 5, person(2))
    expected = sorted(door + hall, key=lambda m: (m.at, m.camera))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        site, order, waiting, arrivals = None, [], [], trajectory.Arrivals()
        left = {"door": list(door), "hall": list(hall)}
        for turn in range(len(expected)):
            camera = str(rng.choice([name for name, queue in left.items() if queue]))
            waiting.append(left[camera].pop(0))
            arrivals.hear(camera, START + turn * 300_000)
            for message in trajectory.release(site, waiting, arrivals, plain):
                site, _ = trajectory.step(site, message, plain)
                order.append(message)
            waiting = [m for m in waiting if not trajectory.known(site, m)]
        assert order == expected[: len(order)]
        assert len(order) >= len(expected) - 5


def test_a_camera_of_which_nothing_comes_is_waited_for_only_so_long(plain: Settings) -> None:
    site, _ = trajectory.step(None, empty("door", 0), plain)
    waiting = [empty("hall", s) for s in range(1, 20)]
    assert trajectory.release(site, waiting, came(door=0, hall=19), plain) == []
    ready = trajectory.release(site, waiting, came(door=0, hall=21), plain)
    assert [m.at for m in ready] == [m.at for m in waiting[:-1]]
    # after a restart: from when the worker took the site
    assert trajectory.release(site, waiting, came(hall=19), plain) == []


def test_what_waits_is_bounded(plain: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, "WAITING", 10)
    site, _ = trajectory.step(None, empty("door", 0), plain)
    waiting = [empty("hall", s) for s in range(1, 20)]
    ready = trajectory.release(site, waiting, came(door=0, hall=1), plain)
    assert ready == waiting[:9]


def test_a_camera_that_ended_is_not_waited_for(plain: Settings) -> None:
    site, _ = trajectory.step(None, empty("door", 0, ended=True), plain)
    waiting = [empty("hall", 1), empty("hall", 2)]
    assert len(trajectory.release(site, waiting, came(door=0, hall=2), plain)) == 1
    ends = [empty("hall", 1), empty("hall", 2, ended=True)]
    assert trajectory.release(site, ends, came(door=0, hall=2), plain) == ends


def test_a_new_site_is_listened_to_for_a_moment_unless_it_has_ended(plain: Settings) -> None:
    waiting = [empty("hall", s) for s in (1, 2, 2.9)]
    assert trajectory.release(None, waiting, came(hall=0.5), plain) == []
    heard = came(hall=0)
    heard.hear("hall", START + 3_000_000)
    assert len(trajectory.release(None, waiting, heard, plain)) == 2
    waiting.append(empty("hall", 3, ended=True))
    assert trajectory.release(None, waiting, came(hall=0.5), plain) == waiting


@pytest.mark.parametrize("people", [60])
def test_many_people_pass_and_the_state_stays_small(plain: Settings, people: int) -> None:
    messages = [m for i in range(people) for m in visit("door", 10 * i, 2, person(i), lambda t: "none")]
    site, told = run(messages, plain)
    assert len(newest(told, Trajectory)) >= 0.95 * people  # random vectors now and then lie close together
    assert len(site.people) <= 300 / 10 + 2
    assert len(msgspec.msgpack.encode(site)) < 200_000
