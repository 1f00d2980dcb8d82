"""What is required where and when: a site's policy as people write it -> the part that travels with each camera.

A camera's part goes with its wish, its frames and its faces, so that whoever judges a face, now or in a replay, judges
by what was required there and then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import yaml

from pipeline.messages import Box, Hours, Outline, Policy, Required, Rule, Zone

# What people may write: enough for any site, little enough to travel with every frame.
MOST_RULES, MOST_HOURS, MOST_ZONES, MOST_CORNERS, LONGEST_GRACE = 50, 20, 32, 64, 3600.0
SMALLEST = 1e-4  # share of the picture that an outline has to cover
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00")


class BadPolicy(ValueError):
    """What was expected of a policy and what came, one fault a line."""


class Written(msgspec.Struct, frozen=True):
    """A policy for a whole site, as it is saved, and as `maskwatch replay --policy` reads it."""

    version: str = ""  # its id; empty: it was never saved
    time_zone: str = "UTC"  # IANA name, of the site
    otherwise: Required = "worn"  # what is required where and when no rule applies
    rules: tuple[Rule, ...] = ()  # the first that applies decides
    zones: dict[str, tuple[Zone, ...]] = {}  # camera -> its zones; of a camera that is not named here, those it has


class Demand(NamedTuple):
    """What is asked of a face, somewhere at some time."""

    breach: tuple[str, ...]  # states that break it
    grace: float | None = None  # seconds; None: Settings.grace
    version: str = ""  # of the policy
    rule: str = ""  # name
    except_roles: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()  # for whom alone; empty: for everybody


ALWAYS = Demand(("none", "incorrect"))  # without any policy: a mask, everywhere


# -- judging ------------------------------------------------------------------------------------------------------


def demands(policy: Policy | None, zone: str, at: int) -> tuple[Demand, ...]:
    """What is required of a face in a zone at a time, µs UTC: by the rules for some roles in their order, up to the
    first for everybody, which is the last; when that requires nothing, or there is none, these alone."""
    if policy is None or not policy.version:
        return (ALWAYS,)
    found: list[Demand] = []
    for rule in policy.rules:
        if rule.zone and rule.zone != zone:
            continue
        if not applies(rule, policy.time_zone, at):
            continue
        if rule.required == "nothing":
            return tuple(found)
        found.append(Demand(rule.breach, rule.grace, policy.version, rule.name, rule.except_roles, rule.roles))
        if not rule.roles:
            return tuple(found)
    return tuple(found) if policy.otherwise == "nothing" else (*found, ALWAYS._replace(version=policy.version))


def demand(policy: Policy | None, zone: str, at: int) -> Demand | None:
    """What is required of everybody there and then; None: nothing is."""
    return next((each for each in demands(policy, zone, at) if not each.roles), None)


def broken(those: Sequence[Demand], state: str) -> Demand | None:
    """Which of the demands on a face its state breaks; None: none of them. Nobody knows yet who it is: what everybody
    breaks counts before what some roles do, but whose own rule allows it is spared; of rules for some roles, whoever
    has a role of any of them breaks it."""
    allowed = [role for each in those if each.roles and state not in each.breach for role in each.roles]
    found = [each for each in those if state in each.breach]
    for each in found:
        if not each.roles:
            return each._replace(except_roles=_once((*each.except_roles, *allowed)))
    if not found:
        return None
    return found[0]._replace(roles=_once(role for each in found for role in each.roles),
                             except_roles=_once(role for each in found for role in each.except_roles))


def _once(roles: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(roles))


def applies(rule: Rule, time_zone: str, at: int) -> bool:
    """Whether a rule holds at that hour, wherever."""
    if not rule.hours and not rule.except_hours:
        return True
    clock = wall(time_zone, at)
    return (not rule.hours or within(rule.hours, clock)) and not within(rule.except_hours, clock)


class Clock(NamedTuple):
    """What calendar and clock say somewhere."""

    day: int  # Monday is 1
    before: int  # the day before
    time: str  # HH:MM


def wall(time_zone: str, at: int) -> Clock:
    """By the clock on the wall: an hour that daylight saving repeats is in force twice, one it leaves out never was."""
    local = datetime.fromtimestamp(at // 1_000_000, zone_of(time_zone))
    return Clock(local.isoweekday(), (local - timedelta(days=1)).isoweekday(), f"{local:%H:%M}")


def within(hours: Iterable[Hours], clock: Clock) -> bool:
    for each in hours:
        over = each.end <= each.begin  # ends on the day after
        if clock.day in each.days and clock.time >= each.begin and (over or clock.time < each.end):
            return True
        if over and clock.before in each.days and clock.time < each.end:
            return True
    return False


@lru_cache(64)
def zone_of(name: str) -> ZoneInfo:
    """Raises BadPolicy."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # what ZoneInfo raises for odd names depends on the system
        raise BadPolicy(f"expected a time zone of the IANA list, as Asia/Shanghai, got {name!r}") from None


def zone(policy: Policy | None, box: Box, width: int, height: int) -> str:
    """Name of the zone in which a face is; `box` in pixels of a picture of that size. Empty: in none."""
    if policy is None or not policy.zones:
        return ""
    x = (box[0] + box[2]) / 2 / max(1, width)
    y = (box[1] + box[3]) / 2 / max(1, height)
    return next((each.name for each in policy.zones if inside(each.outline, x, y)), "")


def inside(outline: Outline, x: float, y: float) -> bool:
    """Even-odd: a ray to the right crosses the outline an odd number of times."""
    found = False
    for (x0, y0), (x1, y1) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            found = not found
    return found


# -- from what is written to what travels ---------------------------------------------------------------------------


def of_camera(written: Written | None, camera: str, zones: Sequence[Zone] = ()) -> Policy | None:
    """What travels with a camera that has these zones; None when there is nothing to say."""
    if written is None:
        return Policy(zones=tuple(zones)) if zones else None
    zones = written.zones.get(camera, tuple(zones))
    names = {each.name for each in zones}
    rules = tuple(
        msgspec.structs.replace(rule, cameras=()) for rule in written.rules
        if (not rule.cameras or camera in rule.cameras) and (not rule.zone or rule.zone in names)
    )
    # a policy that was never saved has to differ from none
    return Policy(written.version or "unsaved", written.time_zone, written.otherwise, rules, tuple(zones))


# -- what may be written --------------------------------------------------------------------------------------------


def faults(written: Written, cameras: Mapping[str, Sequence[Zone]] | None = None) -> list[str]:
    """Empty when it may be a policy. `cameras`: those of the site with their zones, when they are known."""
    found: list[str] = []
    try:
        zone_of(written.time_zone)
    except BadPolicy as error:
        found.append(f"time_zone: {error}")
    if len(written.rules) > MOST_RULES:
        found.append(f"rules: expected at most {MOST_RULES}, got {len(written.rules)}")
    for camera, zones in written.zones.items():
        found += [f"zones.{camera}: {fault}" for fault in zone_faults(zones)]
    if cameras is not None:
        cameras = {**cameras, **written.zones}
    for i, rule in enumerate(written.rules):
        found += [f"rules[{i}].{fault}" for fault in _rule_faults(rule, cameras)]
    return found


def _rule_faults(rule: Rule, cameras: Mapping[str, Sequence[Zone]] | None) -> list[str]:
    found = []
    if len(rule.name) > 80 or any(ord(c) < 32 for c in rule.name):
        found.append(f"name: expected at most 80 characters, got {rule.name[:90]!r}")
    if len(rule.except_roles) > 20 or any(not 0 < len(role) <= 40 or min(role) < " " for role in rule.except_roles):
        found.append("except_roles: expected at most 20 roles of 1..40 characters")
    if len(rule.roles) > 20 or any(not 0 < len(role) <= 40 or min(role) < " " for role in rule.roles):
        found.append("roles: expected at most 20 roles of 1..40 characters")
    if rule.roles and rule.required == "nothing":
        found.append("roles: expected a rule that requires a mask; whom another rule is to spare goes into its "
                     "except_roles")
    if both := sorted({*rule.roles} & {*rule.except_roles}):
        found.append(f"roles: expected roles that except_roles does not name, got {', '.join(both)} in both")
    if rule.required == "worn" and not rule.breach:
        found.append("breach: expected at least one of none, incorrect, got none of them")
    if rule.grace is not None and not 0 <= rule.grace <= LONGEST_GRACE:
        found.append(f"grace: expected seconds, 0..{LONGEST_GRACE:g}, got {rule.grace}")
    for name in ("hours", "except_hours"):
        listed: tuple[Hours, ...] = getattr(rule, name)
        if len(listed) > MOST_HOURS:
            found.append(f"{name}: expected at most {MOST_HOURS}, got {len(listed)}")
        for i, each in enumerate(listed):
            found += [f"{name}[{i}].{fault}" for fault in _hours_faults(each)]
    if cameras is not None:
        found += [f"cameras: expected cameras of the site, got {name!r}" for name in rule.cameras
                  if name not in cameras]
        theirs = {zone.name for camera, zones in cameras.items() if not rule.cameras or camera in rule.cameras
                  for zone in zones}
        if rule.zone and rule.zone not in theirs:
            there = ", ".join(sorted(theirs)) or "none at all"
            found.append(f"zone: expected a zone of these cameras ({there}), got {rule.zone!r}")
    return found


def _hours_faults(hours: Hours) -> list[str]:
    found = []
    if not hours.days or any(not 1 <= day <= 7 for day in hours.days):
        found.append(f"days: expected days from 1 (Monday) to 7, got {list(hours.days)}")
    found += [f"{name}: expected HH:MM, 00:00..24:00, got {text!r}"
              for name, text in (("begin", hours.begin), ("end", hours.end)) if not CLOCK.fullmatch(text)]
    if hours.begin == "24:00":
        found.append("begin: expected 00:00..23:59, got '24:00'")
    return found


def zone_faults(zones: Sequence[Zone]) -> list[str]:
    found = [] if len(zones) <= MOST_ZONES else [f"expected at most {MOST_ZONES} zones, got {len(zones)}"]
    for i, each in enumerate(zones):
        if not each.name or len(each.name) > 60 or any(ord(c) < 32 for c in each.name):
            found.append(f"[{i}].name: expected 1..60 characters, got {each.name!r}")
        found += [f"[{i}].outline: {fault}" for fault in outline_faults(each.outline)]
    names = [each.name for each in zones]
    found += [f"expected each name once, got {name!r} {names.count(name)} times" for name in dict.fromkeys(names)
              if names.count(name) > 1]
    return found


def outline_faults(outline: Outline) -> list[str]:
    """Empty when it encloses something within the picture."""
    if not 3 <= len(outline) <= MOST_CORNERS:
        return [f"expected 3..{MOST_CORNERS} corners, got {len(outline)}"]
    if not all(0 <= value <= 1 for corner in outline for value in corner):
        return ["expected corners within the picture, 0..1 of its width and height, got "
                + ", ".join(f"({x:g}, {y:g})" for x, y in outline if not (0 <= x <= 1 and 0 <= y <= 1))[:200]]
    pairs = zip(outline, (*outline[1:], outline[0]), strict=True)
    area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2
    return [] if area >= SMALLEST else [f"expected an outline that encloses something, got one of area {area:.2g}"]


def load(text: str, file: str = "policy") -> Written:
    """A policy file, YAML or JSON, as `GET /v1/policies/{id}` gives it. Raises BadPolicy with every fault."""
    try:
        # YAML takes 19:00 for 1140; so every scalar is read as it is written, and becomes what its field is
        written = msgspec.convert(yaml.load(text, yaml.BaseLoader), Written, strict=False)  # noqa: S506 -- strings only
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise BadPolicy(f"{file}: expected a policy, got {' '.join(str(error).split())}") from None
    if found := faults(written):
        raise BadPolicy("\n".join(f"{file}: {fault}" for fault in found))
    return written
