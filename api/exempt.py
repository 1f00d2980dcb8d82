"""Whom a rule spares: the episode of somebody with a role that the rule excepts is exempt once they are recognised;
one by a rule for some roles alone is exempt until its person is recognised with one of them.

The stream cannot know: who is enrolled, and with which roles, stands in tables alone. So it is decided here, from rows
alone (the episode, the tracks of its person's route, who was recognised on them, what people decided), whenever one of
them changes: in whatever order they come, and however often, the same is decided.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from api import live, visitors
from api.tables.episodes import FRESH, EpisodeRow
from api.tables.people import PersonRow
from api.tables.recognised import Recognised
from api.tables.trajectories import LegRow

LOCK = 7_041_006  # advisory, with a site's hash
TOPICS = ("faces.embedded", "trajectories", "episodes")  # whose folds `hold`: a long one of one holds up the others


def hold(session: Session, sites: Iterable[str]) -> None:
    """Before rows of these sites are written from which this is decided: else of two who write at the same time neither
    would see what the other has written."""
    for site in sorted(set(sites)):
        session.execute(select(func.pg_advisory_xact_lock(LOCK, func.hashtext(site))))


def of_tracks(session: Session, tracks: Collection[str]) -> None:
    """Decide anew about the episodes of whoever has these tracks."""
    routes = select(LegRow.trajectory).where(LegRow.track.in_(tracks))
    of_people(session, {*tracks, *session.scalars(routes)})


def only_for(roles: Sequence[str]) -> str:
    """Why an episode by a rule for these roles is none of somebody else."""
    return f"rule is for {', '.join(roles)}"[:200]


def of_people(session: Session, people: Collection[str], unheard: Collection[str] = ()) -> None:
    """The same of these trajectories. `unheard`: episodes of which nobody has been told yet."""
    rows = session.scalars(select(EpisodeRow).where(
        EpisodeRow.person.in_(people), or_(func.cardinality(EpisodeRow.except_roles) > 0,
                                           func.cardinality(EpisodeRow.roles) > 0, EpisodeRow.exempt != ""))
        .order_by(EpisodeRow.id).execution_options(populate_existing=True)).all()
    if not rows:
        return
    found, now = _roles(session, {row.person for row in rows}), time.time_ns() // 1000
    for row in rows:
        spared = sorted(found[row.person].intersection(row.except_roles))
        other = bool(row.roles) and found[row.person].isdisjoint(row.roles)
        why, before = spared[0] if spared else only_for(row.roles) if other else "", row.exempt
        if why == before:
            continue
        row.exempt = why
        if now - row.recorded < FRESH and not (other and row.id in unheard):
            fresh = before.startswith(only_for(())) and row.status == "open"
            live.tell(session, live.Event(
                "episode.exempt" if why else "episode.opened" if fresh else "episode.changed",
                {"id": row.id, "state": row.state, "status": row.status, "start": row.start, "end": row.end},
                row.site, row.cameras[-1] if row.cameras else "", "compliance.view",
                cameras=live.of_cameras(row.cameras)))
    session.flush()


def _roles(session: Session, people: Collection[str]) -> defaultdict[str, set[str]]:
    """Trajectory -> roles of the enrolled people that it is: recognised on one of its tracks, or by somebody's word."""
    links = visitors.links(session)
    tracks = dict(session.execute(select(LegRow.track, LegRow.trajectory).where(LegRow.trajectory.in_(people))).all())
    tracks |= {person: person for person in people if person not in tracks}  # their first one
    found: defaultdict[str, set[str]] = defaultdict(set)
    for seen in session.scalars(select(Recognised).where(Recognised.track.in_(tracks), Recognised.sure)):
        person = tracks[seen.track]
        if links.owner.get(seen.track, person) != person:
            continue  # a split gave that track to somebody else
        if links.decided(links.head(person)).get(seen.person, True):
            found[person].update(seen.roles)
    said = {person: {id for id, yes in links.decided(links.head(person)).items() if yes} for person in people}
    wanted = {id for ids in said.values() for id in ids}
    roles = dict(session.execute(select(PersonRow.id, PersonRow.roles).where(
        PersonRow.id.in_(wanted), PersonRow.withdrawn.is_(None))).all()) if wanted else {}
    for person, ids in said.items():
        for id in ids:
            found[person].update(roles.get(id, ()))
    return found
