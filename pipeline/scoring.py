"""Messages against the truth: what was found, called by its right state, kept apart, joined and reported.

Every figure is a count of right ones over a count: recall over what is true, precision over what was said. A face that
is hardly visible is neither demanded nor held against anybody, and while a mask is being moved either state is right.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import msgspec

from pipeline.messages import STATES, Box, Episode, Face, Faces, State, Trajectory
from pipeline.settings import Settings

SECOND = 1_000_000  # µs
OVERLAPS = 0.4  # IoU from which a box is that face; detectors cut faces differently, hence not more
SPELL = 1.0  # seconds somebody has to hold a state in one view for it to be asked about
QUIET: float = Settings.model_fields["quiet"].default
APART = 8.0  # seconds between two looks at somebody in one view that make them two walks
FEW = 2  # looks below which a track is not asked whom it belongs to
JUDGED: tuple[State, ...] = ("worn", "incorrect", "none")


@dataclass(frozen=True)
class TrueFace:
    person: str
    state: State
    box: Box  # pixels of the clip's picture
    visible: bool = True  # has to be found
    changing: bool = False  # the mask is being moved


@dataclass(frozen=True)
class Breach:
    """A stretch in which somebody is known to be in breach; seconds from the clips' common beginning."""

    person: str
    state: State  # the worst in it
    start: float
    end: float
    cameras: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truth:
    fps: float
    width: int  # of the pictures the boxes are given in, pixels
    frames: Mapping[str, Mapping[int, tuple[TrueFace, ...]]]  # camera -> frame number -> faces
    breaches: tuple[Breach, ...]
    delays: Mapping[str, float] = field(default_factory=dict)  # camera -> seconds its clip starts after the first one

    def second(self, camera: str, number: int) -> float:
        return number / self.fps + self.delays.get(camera, 0.0)


@dataclass(frozen=True)
class Share:
    """`right` of `all_`; none of none is everything."""

    right: int = 0
    all_: int = 0

    @property
    def value(self) -> float:
        return self.right / self.all_ if self.all_ else 1.0

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.right}/{self.all_})" if self.all_ else "– (0/0)"


@dataclass(frozen=True)
class Rates:
    recall: Share = Share()
    precision: Share = Share()


@dataclass(frozen=True)
class Score:
    analysed: int  # pictures that were looked at
    found: Rates  # faces in the pictures that were looked at
    looks: dict[str, Rates]  # by state: what each single look says
    states: dict[str, Rates]  # by state: what is said after several looks
    spells: dict[str, Rates]  # by state: one question for each stretch in which somebody holds a state in one view
    purity: Share  # looks in a track that belong to the person most of its looks belong to
    switches: int  # changes of track within one walk through one view
    visits: int  # walks through a view
    joins: Rates  # of one person's walks through two cameras; of the pairs of tracks that routes put together
    episodes: Rates
    episode_states: Share  # of the episodes found: those with the right state
    start_errors: tuple[float, ...]  # of the episodes found, seconds
    end_errors: tuple[float, ...]
    confusion: dict[tuple[str, str], int]  # (true, said) -> looks, after several looks
    unmatched_episodes: tuple[str, ...]  # in words: those missed and those invented


# -- reading the truth ----------------------------------------------------------------------------------------------

_NAMES: dict[str, State] = {"mask": "worn", "worn": "worn", "incorrect": "incorrect", "none": "none"}


def read(path: Path, delays: Mapping[str, float] | None = None, quiet: float = QUIET) -> Truth:
    """The ground truth of the demo, or of one of the clips with pseudo-labels ("clips", or "frames" and "passes")."""
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fps, width = float(told["fps"]), int(told.get("size", (960, 540))[0])
    frames: dict[str, dict[int, tuple[TrueFace, ...]]]
    if "cameras" in told:
        frames = {
            camera: {int(f["i"]): tuple(_face(face) for face in f["faces"]) for f in clip["frames"]}
            for camera, clip in told["cameras"].items()
        }
    elif "clips" in told:
        frames = {camera: _numbered(clip["annotations"]) for camera, clip in told["clips"].items()}
    elif "frames" in told:
        frames = {camera: _numbered(clip) for camera, clip in told["frames"].items()}
    else:
        raise ValueError(f"{path}: expected `cameras`, `clips` or `frames`, got {', '.join(sorted(told))}")
    truth = Truth(fps, width, frames, (), delays or {})
    # counted anew, and not taken from the file: what one episode is depends on `quiet`
    breaches = [breach for looks in _looks_of(truth).values() for breach in breaches_of(looks, quiet)]
    return Truth(fps, width, frames, tuple(breaches), delays or {})


def _face(told: Mapping[str, Any]) -> TrueFace:
    x0, y0, x1, y1 = (float(v) for v in told["box"])
    return TrueFace(
        told["person"], _NAMES[told["state"]], (x0, y0, x1, y1),
        bool(told.get("visible", True)) and not told.get("occluded", False), bool(told.get("changing", False)),
    )  # fmt: skip


def _numbered(told: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[int, tuple[TrueFace, ...]]:
    return {int(number): tuple(_face(face) for face in faces) for number, faces in told.items()}


TrueLook = tuple[float, str, str, State]  # second, person, camera, state


def _looks_of(truth: Truth) -> dict[str, list[TrueLook]]:
    """What there is to see of each person, in order of time."""
    looks: dict[str, list[TrueLook]] = {}
    for camera, frames in truth.frames.items():
        for number, faces in frames.items():
            for face in faces:
                if face.visible:
                    look = (truth.second(camera, number), face.person, camera, face.state)
                    looks.setdefault(face.person, []).append(look)
    return {person: sorted(of_person) for person, of_person in sorted(looks.items())}


def breaches_of(looks: Sequence[TrueLook], quiet: float = QUIET) -> list[Breach]:
    """One person's looks in order of time -> stretches in breach: a look with the mask worn ends one, and silence."""
    breaches: list[Breach] = []
    run: list[TrueLook] = []
    ends: TrueLook = (float("inf"), "", "", "worn")
    for look in (*looks, ends):
        if run and (look[3] == "worn" or look[0] - run[-1][0] > quiet):
            worst: State = "none" if any(state == "none" for *_, state in run) else "incorrect"
            cameras = tuple(dict.fromkeys(camera for _, _, camera, _ in run))
            breaches.append(Breach(run[0][1], worst, run[0][0], run[-1][0], cameras))
            run = []
        if look[3] != "worn":
            run.append(look)
    return breaches


# -- comparing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """One face that was found where there is one."""

    second: float
    camera: str
    true: TrueFace
    face: Face


def score(truth: Truth, messages: Iterable[msgspec.Struct], start: int) -> Score:
    """`messages`: Faces, Trajectory and Episode in the order they were sent; `start`: time of the first clip's first
    picture, µs."""
    looked_at: list[Faces] = []
    routes: dict[str, Trajectory] = {}
    episodes: dict[str, Episode] = {}
    for message in messages:
        if isinstance(message, Faces) and not message.ended:
            looked_at.append(message)
        elif isinstance(message, Trajectory):
            routes[message.id] = message
        elif isinstance(message, Episode):
            episodes[message.id] = message
    matches, found = _match(truth, looked_at, start)
    owners = _owners(matches)
    sure = [m for m in matches if not m.true.changing]
    visits, switches = _switches(truth, matches)
    right, errors, unmatched, rates = _episodes(truth, list(episodes.values()), routes, owners, start)
    return Score(
        analysed=len(looked_at),
        found=found,
        looks=_by_state([(m.true.state, m.face.look) for m in sure]),
        states=_by_state([(m.true.state, m.face.state) for m in sure]),
        spells=_by_state(_spells(truth, sure)),
        purity=Share(
            sum(owners.get(m.face.track) == m.true.person for m in matches if m.face.track in owners),
            sum(m.face.track in owners for m in matches),
        ),
        switches=switches,
        visits=visits,
        joins=_joins(truth, matches, owners, routes.values()),
        episodes=rates,
        episode_states=right,
        start_errors=tuple(error[0] for error in errors),
        end_errors=tuple(error[1] for error in errors),
        confusion=dict(Counter((m.true.state, m.face.state) for m in sure)),
        unmatched_episodes=unmatched,
    )


def _match(truth: Truth, looked_at: Iterable[Faces], start: int) -> tuple[list[Match], Rates]:
    matches: list[Match] = []
    hit = demanded = said = wrong = 0
    for message in looked_at:
        if message.camera not in truth.frames:
            continue
        second = (message.at - start) / SECOND
        number = round((second - truth.delays.get(message.camera, 0.0)) * truth.fps)
        faces = truth.frames[message.camera].get(number, ())
        scale = message.width / truth.width if message.width else 1.0
        pairs = sorted(
            (
                (-_iou(face.box, _scaled(true.box, scale)), i, j)
                for i, true in enumerate(faces)
                for j, face in enumerate(message.faces)
            ),
        )
        free_true, free_said = set(range(len(faces))), set(range(len(message.faces)))
        for overlap, i, j in pairs:
            if -overlap >= OVERLAPS and i in free_true and j in free_said:
                free_true.remove(i)
                free_said.remove(j)
                matches.append(Match(second, message.camera, faces[i], message.faces[j]))
                hit += faces[i].visible
        demanded += sum(face.visible for face in faces)
        said += len(message.faces)
        wrong += len(free_said)
    return matches, Rates(Share(hit, demanded), Share(said - wrong, said))


def _iou(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _scaled(box: Box, scale: float) -> Box:
    x0, y0, x1, y1 = (v * scale for v in box)
    return x0, y0, x1, y1


def _owners(matches: Iterable[Match]) -> dict[str, str]:
    """Track -> the person most of its looks belong to."""
    counts: dict[str, Counter[str]] = {}
    for match in matches:
        if match.face.track:
            counts.setdefault(match.face.track, Counter())[match.true.person] += 1
    return {track: of.most_common(1)[0][0] for track, of in counts.items() if of.total() >= FEW}


def _by_state(pairs: Sequence[tuple[str, str]]) -> dict[str, Rates]:
    """(true, said) -> recall and precision of each state; `unknown` said is no state said."""
    rates: dict[str, Rates] = {}
    for state in JUDGED:
        right = sum(true == said == state for true, said in pairs)
        rates[state] = Rates(
            Share(right, sum(true == state for true, _ in pairs)), Share(right, sum(said == state for _, said in pairs))
        )
    return rates


def _visits(truth: Truth) -> dict[tuple[str, str], list[list[TrueLook]]]:
    """(camera, person) -> walks through that view: looks with no more than APART seconds between them."""
    visits: dict[tuple[str, str], list[list[TrueLook]]] = {}
    for looks in _looks_of(truth).values():
        for look in looks:
            walks = visits.setdefault((look[2], look[1]), [])
            if walks and look[0] - walks[-1][-1][0] <= APART:
                walks[-1].append(look)
            else:
                walks.append([look])
    return visits


def _spells(truth: Truth, matches: Sequence[Match]) -> list[tuple[str, str]]:
    """(true, said) for each stretch in which somebody holds a state in one view: what most of the seconds say.

    The first second of a stretch is the time that deciding over several looks is given."""
    asked: list[tuple[str, str]] = []
    for (camera, person), walks in _visits(truth).items():
        mine = [m for m in matches if m.camera == camera and m.true.person == person]
        for walk in walks:
            begin = 0
            for i in range(1, len(walk) + 1):
                if i < len(walk) and walk[i][3] == walk[begin][3]:
                    continue
                first, last, state = walk[begin][0], walk[i - 1][0], walk[begin][3]
                begin = i
                if last - first < SPELL:
                    continue
                said = Counter(m.face.state for m in mine if first + SPELL <= m.second <= last + 1e-6)
                del said["unknown"]
                asked.append((state, said.most_common(1)[0][0] if said else "unknown"))
    return asked


def _switches(truth: Truth, matches: Sequence[Match]) -> tuple[int, int]:
    visits, switches = 0, 0
    for (camera, person), walks in _visits(truth).items():
        for walk in walks:
            visits += 1
            tracks = [
                m.face.track
                for m in matches
                if m.camera == camera
                and m.true.person == person
                and walk[0][0] <= m.second <= walk[-1][0]
                and m.face.track
            ]
            switches += sum(a != b for a, b in pairwise(tracks))
    return visits, switches


def _joins(truth: Truth, matches: Sequence[Match], owners: Mapping[str, str], routes: Iterable[Trajectory]) -> Rates:
    """Recall over the walks of one person through two cameras, each asked by its longest track; precision over all
    pairs of tracks of two cameras that a route puts together."""
    route_of = {leg.track: route.id for route in routes for leg in route.legs}
    longest: list[tuple[str, str, str]] = []  # person, camera, track
    for (camera, person), walks in _visits(truth).items():
        for walk in walks:
            tracks = Counter(
                m.face.track
                for m in matches
                if m.camera == camera and m.true.person == person and walk[0][0] <= m.second <= walk[-1][0]
            )
            longest.append((person, camera, tracks.most_common(1)[0][0] if tracks else ""))
    pairs = [(a[2], b[2]) for a, b in combinations(longest, 2) if a[0] == b[0] and a[1] != b[1]]
    found = sum(a in route_of and route_of[a] == route_of.get(b) for a, b in pairs)

    camera_of = {m.face.track: m.camera for m in matches}
    said = [
        owners[a] == owners[b]
        for a, b in combinations(sorted(owners), 2)
        if camera_of[a] != camera_of[b] and a in route_of and route_of[a] == route_of.get(b)
    ]
    return Rates(Share(found, len(pairs)), Share(sum(said), len(said)))


def _episodes(
    truth: Truth, said: Sequence[Episode], routes: Mapping[str, Trajectory], owners: Mapping[str, str], start: int
) -> tuple[Share, list[tuple[float, float]], tuple[str, ...], Rates]:
    """An episode said is a true one of the same person at the same time."""

    def who(episode: Episode) -> str:
        """The person most of the route's legs at that time belong to."""
        route = routes.get(episode.person)
        legs = Counter(
            owners.get(leg.track, "")
            for leg in (route.legs if route else ())
            if leg.start <= episode.end and leg.end >= episode.start
        )
        return legs.most_common(1)[0][0] if legs else ""

    people = [who(episode) for episode in said]
    times = [((e.start - start) / SECOND, (e.end - start) / SECOND) for e in said]
    pairs = sorted(
        (max(begin, breach.start) - min(end, breach.end), i, j)
        for i, breach in enumerate(truth.breaches)
        for j, (begin, end) in enumerate(times)
        if people[j] == breach.person and begin <= breach.end and end >= breach.start
    )
    free_true, free_said = set(range(len(truth.breaches))), set(range(len(said)))
    errors: list[tuple[float, float]] = []
    right = 0
    for _, i, j in pairs:
        if i in free_true and j in free_said:
            free_true.remove(i)
            free_said.remove(j)
            breach = truth.breaches[i]
            errors.append((times[j][0] - breach.start, times[j][1] - breach.end))
            right += said[j].state == breach.state
    words = [
        f"missed: {b.person} {b.state} {b.start:.1f}–{b.end:.1f} s in {', '.join(b.cameras)}"
        for i, b in enumerate(truth.breaches)
        if i in free_true
    ] + [
        f"invented: {people[j] or 'nobody known'} {said[j].state} {times[j][0]:.1f}–{times[j][1]:.1f} s "
        f"in {', '.join(said[j].cameras)}"
        for j in sorted(free_said)
    ]
    hits = len(errors)
    rates = Rates(Share(hits, len(truth.breaches)), Share(hits, len(said)))
    return Share(right, hits), errors, tuple(words), rates


# -- telling --------------------------------------------------------------------------------------------------------


def table(result: Score) -> str:
    """The score for people, as Markdown."""
    rows: list[tuple[str, Rates]] = [("faces found", result.found)]
    for title, by_state in (("single look", result.looks), ("state", result.states), ("spell", result.spells)):
        rows += [(f"{title}: {state}", rates) for state, rates in by_state.items()]
    rows += [("same person in two cameras", result.joins), ("episodes", result.episodes)]
    lines = ["| what | recall | precision |", "|---|---|---|"]
    lines += [f"| {name} | {rates.recall} | {rates.precision} |" for name, rates in rows]

    def spread(errors: Sequence[float]) -> str:
        if not errors:
            return "–"
        sizes = [abs(error) for error in errors]
        return f"median {statistics.median(sizes):.2f} s, largest {max(sizes):.2f} s"

    lines += [
        "",
        f"pictures looked at: {result.analysed}; track purity {result.purity}; "
        f"track switches {result.switches} in {result.visits} walks through a view",
        f"episodes with the right state: {result.episode_states}; "
        f"start off by {spread(result.start_errors)}; end off by {spread(result.end_errors)}",
        "true → said: "
        + ", ".join(
            f"{true}→{said} {result.confusion[true, said]}"
            for true in JUDGED
            for said in STATES
            if (true, said) in result.confusion
        ),
        *result.unmatched_episodes,
    ]
    return "\n".join(lines)
