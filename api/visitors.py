"""Visitors: people as the cameras know them, without a name. Who is who by the stream, and by what people decided.

A visitor's id is that of a route (the id of its first track), or of the first track that a split took out of one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from api.permissions import Scope
from api.tables.cameras import CameraId
from api.tables.inspections import Inspection
from api.tables.people import Decision, PersonRow
from api.tables.recognised import Recognised
from api.tables.sightings import Sighting
from api.tables.trajectories import LegRow


@dataclass
class Links:
    """The decisions that count, ready to be asked."""

    owner: dict[str, str] = field(default_factory=dict)  # track -> visitor that a split gave it to
    into: dict[str, str] = field(default_factory=dict)  # visitor -> visitor it was merged into
    named: dict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))  # visitor -> person -> is

    def head(self, visitor: str) -> str:
        """The visitor that this one is, after every merge."""
        met = {visitor}
        while (after := self.into.get(visitor)) is not None and after not in met:
            met.add(after)
            visitor = after
        return visitor

    def members(self, visitor: str) -> set[str]:
        """Every visitor that is this one."""
        head = self.head(visitor)
        return {head, *(each for each in self.into if self.head(each) == head)}

    def decided(self, visitor: str) -> dict[str, bool]:
        """Enrolled person -> whether this visitor is that person; the last word counts."""
        return {person: yes for each in sorted(self.members(visitor)) for person, yes in self.named[each].items()
                } if self.named else {}


def links(session: Session) -> Links:
    """All decisions that were not undone: people make them one by one, so there are few."""
    known = Links()
    for d in session.scalars(select(Decision).where(Decision.undone.is_(None)).order_by(Decision.id)):
        if d.kind == "merge" and known.head(d.object) != known.head(d.subject):
            known.into[known.head(d.subject)] = d.object
        elif d.kind == "split":
            known.owner |= dict.fromkeys(d.tracks, d.object)
        elif d.kind in ("is", "not"):
            known.named[d.subject][d.object] = d.kind == "is"
    return known


def of_tracks(session: Session, known: Links, tracks: Collection[str]) -> dict[str, str]:
    """Track -> visitor; a track on no route is a visitor of its own."""
    routes = dict(session.execute(select(LegRow.track, LegRow.trajectory).where(LegRow.track.in_(tracks))).all())
    return {track: known.head(known.owner.get(track) or routes.get(track, track)) for track in tracks}


def legs(session: Session, known: Links, visitor: str) -> list[LegRow]:
    """Every stretch of every route of a visitor, in order of time."""
    members = known.members(visitor)
    given = {track for track, owner in known.owner.items() if owner in members}
    rows = session.scalars(select(LegRow).where(or_(LegRow.trajectory.in_(members), LegRow.track.in_(given)))
                           .order_by(LegRow.start, LegRow.trajectory, LegRow.number))
    return [row for row in rows if known.owner.get(row.track, row.trajectory) in members]


def tracks(session: Session, known: Links, visitor: str) -> list[Sighting]:
    """The tracks of a visitor, in order of time: those of their routes, and the one that is on none."""
    ids = {leg.track for leg in legs(session, known, visitor)}
    loose = {each for each in known.members(visitor) if each not in known.owner}
    rows = session.scalars(select(Sighting).where(Sighting.id.in_(ids | loose)).order_by(Sighting.start)).all()
    if ids:
        return [row for row in rows if row.id in ids]
    routed = set(session.scalars(select(LegRow.track).where(LegRow.track.in_(loose))))
    return [row for row in rows if row.id not in routed]


def places(session: Session, ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Track, face or visitor -> site and camera, as far as anybody knows: each of these ids begins with its camera's,
    and a photo's with that of its inspection, which stands for a camera."""
    found = {id_: (site, camera) for table, column in ((Sighting, Sighting.id), (LegRow, LegRow.track))
             for id_, site, camera in session.execute(
                 select(column, table.site, table.camera).where(column.in_(ids)))}  # type: ignore[attr-defined]
    cameras = {id_: id_.rpartition("@")[0] for id_ in ids if id_ not in found}
    sites = dict(session.execute(select(CameraId.id, CameraId.site).where(CameraId.id.in_(cameras.values()))).all())
    sites |= dict(session.execute(select(Inspection.id, Inspection.site).where(
        Inspection.id.in_(cameras.values()))).all())
    return found | {id_: (sites[camera], camera) for id_, camera in cameras.items() if camera in sites}


@dataclass(frozen=True)
class Named:
    """The enrolled person that a visitor is."""

    person: str
    name: str
    how: str  # decided: somebody said so; recognised: the portraits are alike
    chance: float  # of the most alike look; 1 when decided


def named(session: Session, known: Links, by_visitor: dict[str, Iterable[str]], scope: Scope) -> dict[str, Named]:
    """Visitor -> who they are, as far as the scope covers that person. `by_visitor`: tracks of each."""
    owner = {track: visitor for visitor, those in by_visitor.items() for track in those}
    found: dict[str, tuple[str, str, float]] = {}
    rows = session.scalars(select(Recognised).where(Recognised.track.in_(owner), Recognised.sure)
                           .order_by(Recognised.looks, Recognised.chance))
    for row in rows:  # the one with most looks comes last
        visitor = owner[row.track]
        if known.decided(visitor).get(row.person, True):
            found[visitor] = row.person, "recognised", row.chance
    for visitor in by_visitor:
        for person, yes in known.decided(visitor).items():
            if yes:
                found[visitor] = person, "decided", 1.0
    people = {row.id: row for row in session.scalars(
        select(PersonRow).where(PersonRow.id.in_({person for person, _, _ in found.values()}),
                                PersonRow.withdrawn.is_(None)))}
    return {visitor: Named(person, people[person].name, how, chance)
            for visitor, (person, how, chance) in found.items()
            if person in people and may_know(scope, people[person])}


def may_know(scope: Scope, person: PersonRow) -> bool:
    """Somebody enrolled at every site is known to whoever sees people at any whole site."""
    return scope.covers(person.site) if person.site else scope.everywhere or bool(scope.sites)


def of_person(session: Session, known: Links, person: str) -> list[str]:
    """The visitors that an enrolled person is."""
    seen = of_tracks(session, known, set(session.scalars(
        select(Recognised.track).where(and_(Recognised.person == person, Recognised.sure)))))
    found = {visitor for visitor in seen.values() if known.decided(visitor).get(person, True)}
    found |= {known.head(visitor) for visitor, said in known.named.items() if said.get(person)}
    return sorted(found)
