"""Who of the enrolled people was recognised where: each look at an `enrolled` site against the portraits.

One row a track and person. It is `sure` when two looks agree, or one is so alike that ten times fewer strangers are;
only then is it told and shown. What people decided about it lies in `decisions`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Index, String, delete, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, Session, mapped_column

from api import live, vectors
from api.db import Base, Id, Micros, now
from api.folds import Context, Told
from api.tables.people import PersonRow, Portrait, Watched
from api.tables.vectors import masked
from pipeline import likeness
from pipeline.messages import Face, Faces

FRESH = 600 * 1_000_000  # µs: of what is older nobody is told live
AGREE = 2  # looks
STRICT = 0.1  # of the rate of false matches, for a single look


class Recognised(Base):
    """A track that looks like an enrolled person."""

    __tablename__ = "recognised"

    id: Mapped[Id]  # track|person
    track: Mapped[str] = mapped_column(String(200), index=True)
    person: Mapped[str] = mapped_column(String(36), index=True)
    site: Mapped[str] = mapped_column(String(64))
    camera: Mapped[str] = mapped_column(String(64))
    start: Mapped[Micros]  # first look that was alike, µs UTC
    at: Mapped[Micros]  # newest look that was compared
    looks: Mapped[int]  # that were alike
    sure: Mapped[bool]
    cosine: Mapped[float]  # of the most alike look
    chance: Mapped[float]  # that this look is the person, were it as likely as not beforehand
    masked: Mapped[bool]  # in that look
    face: Mapped[str] = mapped_column(String(200))  # that look
    lists: Mapped[list[str]] = mapped_column(ARRAY(String(36)))  # watch-lists that the person was on by then
    roles: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # that they had by then

    __table_args__ = (Index("ix_recognised_at", "at"), Index("ix_recognised_person_at", "person", "at"))


class Alike(NamedTuple):
    """Whom a look is like."""

    person: str
    cosine: float
    kind: int  # masked faces of the pair
    sure: bool  # by this look alone


@dataclass(frozen=True)
class Gallery:
    """The portraits of one space that a site may be compared with."""

    people: NDArray[np.str_]  # (N,) person of each portrait
    vectors: NDArray[np.float32]  # (N, D)
    masked: NDArray[np.bool_]  # (N,)

    def closest(self, face: NDArray[np.float32], covered: bool) -> tuple[str, float, int] | None:
        """The most alike person, on the scale of bare faces; -> person, cosine as it is, masked faces of the pair."""
        if not len(self.people):
            return None
        cosines = self.vectors @ face
        level = likeness.levelled(cosines[None], np.array([covered]), self.masked)[0]
        best = int(level.argmax())
        return str(self.people[best]), float(cosines[best]), int(covered) + int(self.masked[best])

    def judged(self, face: Face, rate: float) -> Alike | None:
        """Whom a look is as alike as strangers rarely are, `rate` of them among all these people; None: nobody."""
        found = self.closest(np.array(face.embedding, np.float32), masked(face))
        if found is None:
            return None
        person, cosine, kind = found
        each = max(1e-5, min(0.1, rate / len(self.people)))  # of one comparison
        if cosine < likeness.threshold(each, kind):
            return None
        return Alike(person, cosine, kind, cosine >= likeness.threshold(max(1e-5, each * STRICT), kind))


class Recognition:
    """`faces.embedded` of `enrolled` sites -> recognised. Nothing of another site is compared with anybody."""

    name, topic = "recognised", "faces.embedded"

    def __init__(self) -> None:
        self._galleries: dict[tuple[str, str], tuple[tuple[Any, ...], Gallery]] = {}

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        ours = [(told, face) for told in messages if told.message.privacy == "enrolled"
                for face in told.message.faces if face.embedding and face.track]
        if not ours:
            return
        from api import exempt

        galleries: dict[tuple[str, str], Gallery] = {}
        looks: list[tuple[Told, Face, Alike]] = []
        for told, face in ours:
            message: Faces = told.message
            key = message.site, vectors.space(message.models, len(face.embedding))
            if key not in galleries:
                galleries[key] = self._gallery(session, *key)
            if (alike := galleries[key].judged(face, context.settings.recognise)) is not None:
                looks.append((told, face, alike))
        agreed = consenting(session, {alike.person for _, _, alike in looks})
        looks = [look for look in looks if look[2].person in agreed]
        exempt.hold(session, {told.message.site for told, _, _ in looks})
        rows = {row.id: row for row in session.scalars(
            select(Recognised).where(Recognised.track.in_({face.track for _, face, _ in looks})))}
        fresh: list[tuple[Told, Recognised]] = []
        for told, face, alike in looks:
            row = self._look(session, rows, told.message, face, alike)
            if row is not None:
                fresh.append((told, row))
        session.flush()
        self._tell(session, fresh)
        session.flush()
        exempt.of_tracks(session, {row.track for _, row in fresh if row.roles})

    def _look(self, session: Session, rows: dict[str, Recognised], message: Faces, face: Face, alike: Alike
              ) -> Recognised | None:
        """One look; -> the row that has become sure by it."""
        id_ = f"{face.track}|{alike.person}"
        row = rows.get(id_)
        if row is None:
            row = rows[id_] = Recognised(
                id=id_, track=face.track, person=alike.person, site=message.site, camera=message.camera,
                start=message.at, at=message.at, looks=0, sure=False, cosine=-1.0, chance=0.0, masked=masked(face),
                face=face.id, lists=[], roles=[])
            session.add(row)
        elif message.at <= row.at:
            return None
        before = row.sure
        row.at, row.looks = message.at, row.looks + 1
        if alike.cosine > row.cosine:
            row.cosine, row.chance = alike.cosine, round(likeness.chance(alike.cosine, alike.kind), 4)
            row.masked, row.face = masked(face), face.id
        row.sure = before or row.looks >= AGREE or alike.sure
        return row if row.sure and not before else None

    def _gallery(self, session: Session, site: str, space: str) -> Gallery:
        """Kept between batches; a portrait that comes or goes is seen by the next one."""
        those = (Portrait.space == space, PersonRow.site.in_({site, ""}), PersonRow.withdrawn.is_(None))
        mark = tuple(session.execute(select(func.count(), func.max(Portrait.created), func.min(Portrait.id),
                                            func.max(Portrait.id)).join(PersonRow).where(*those)).one())
        known = self._galleries.get((site, space))
        if known and known[0] == mark:
            return known[1]
        found = session.execute(select(Portrait.person, Portrait.vector, Portrait.masked).join(PersonRow)
                                .where(*those).order_by(Portrait.id)).all()
        gallery = Gallery(
            np.array([person for person, _, _ in found]),
            np.array([np.frombuffer(vector, np.float32) for _, vector, _ in found], np.float32),
            np.array([covered for _, _, covered in found], bool))  # fmt: skip
        self._galleries[site, space] = mark, gallery
        return gallery

    def _tell(self, session: Session, fresh: Sequence[tuple[Told, Recognised]]) -> None:
        if not fresh:
            return
        lists: defaultdict[str, list[str]] = defaultdict(list)
        for person, list_ in session.execute(select(Watched.person, Watched.list).where(
                Watched.person.in_({row.person for _, row in fresh}),
                or_(Watched.until.is_(None), Watched.until > now()))):
            lists[person].append(list_)
        roles = dict(session.execute(select(PersonRow.id, PersonRow.roles).where(
            PersonRow.id.in_({row.person for _, row in fresh}))).all())
        soon = time.time_ns() // 1000 - FRESH
        for told, row in fresh:
            row.lists, row.roles = sorted(lists[row.person]), sorted(roles.get(row.person, ()))
            if told.at < soon:
                continue
            kind = "watchlist.hit" if row.lists else "person.recognised"
            live.tell(session, live.Event(kind, {
                "id": row.id, "person": row.person, "track": row.track, "face": row.face, "at": row.at,
                "chance": row.chance, "lists": row.lists[:20],
            }, row.site, row.camera, "people.view"))

    def clear(self, session: Session, context: Context, since: int) -> None:
        """What is folded again is compared with the portraits that there are by then."""
        remove(session, Recognised.at >= since)


def consenting(session: Session, people: Collection[str]) -> set[str]:
    """Those whose consent holds, and goes on doing so until the transaction ends: whoever takes it back waits."""
    return set(session.scalars(select(PersonRow.id).where(PersonRow.id.in_(people), PersonRow.withdrawn.is_(None))
                               .order_by(PersonRow.id).with_for_update(read=True)))


def remove(session: Session, *where: ColumnElement[bool]) -> int:
    """Recognitions with what followed from them; -> how many."""
    from api import exempt

    exempt.hold(session, session.scalars(select(Recognised.site).where(*where).distinct()).all())
    tracks = session.scalars(delete(Recognised).where(*where).returning(Recognised.track)).all()
    exempt.of_tracks(session, tracks)
    return len(tracks)


def forget(session: Session, person: str) -> None:
    """Every recognition of somebody who took their consent back, and what was told of it."""
    from api import alerts
    from api.tables import subjects

    alerts.forget(session, Recognised.person == person, person)
    subjects.forget(session, people=subjects.EpisodePerson.person == person)
    remove(session, Recognised.person == person)


FOLDS = [Recognition()]
