"""Episodes: breaches folded from `episodes`, their pictures, and what people decided about them.

A rebuild makes `episodes` and `evidence` anew; `episode_reviews` and `episode_steps` are what people wrote, so nothing
but a person touches them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Identity,
    Index,
    String,
    Text,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from api import live, pictures
from api.db import Base, Id, Micros, Stamp
from api.folds import Context, Told
from api.permissions import Scope
from pipeline.messages import Episode

FRESH = 600 * 1_000_000  # µs: of what was recorded earlier nobody is told live; a rebuild or a catching-up is no news
FOLDER = "evidence"


class EpisodeReview(Base):
    """What people have decided about an episode so far. No row: nobody has."""

    __tablename__ = "episode_reviews"

    id: Mapped[Id]  # of the episode
    status: Mapped[str] = mapped_column(String(12), default="new", index=True)  # new, acknowledged, closed
    assigned: Mapped[str] = mapped_column(String(36), default="", index=True)  # user; empty: nobody
    action: Mapped[str] = mapped_column(String(20), default="")  # the corrective action it was closed with, a code
    note: Mapped[str] = mapped_column(Text, default="")  # and in words
    acknowledged_by: Mapped[str] = mapped_column(String(36), default="")
    acknowledged_at: Mapped[datetime | None]
    closed_by: Mapped[str] = mapped_column(String(36), default="")
    closed_at: Mapped[datetime | None]
    changed: Mapped[Stamp]


class EpisodeStep(Base):
    """One thing that somebody did to an episode; only ever added."""

    __tablename__ = "episode_steps"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    episode: Mapped[str] = mapped_column(String(200))
    at: Mapped[Stamp]
    user: Mapped[str] = mapped_column(String(36))
    verb: Mapped[str] = mapped_column(String(12))  # acknowledge, assign, comment, close, reopen
    text: Mapped[str] = mapped_column(Text, default="")
    action: Mapped[str] = mapped_column(String(20), default="")  # of a close
    assigned: Mapped[str] = mapped_column(String(36), default="")  # of an assign: to whom

    __table_args__ = (Index("ix_episode_steps_episode_id", "episode", "id"),)


class EpisodeRow(Base):
    """One breach by one person, as the stream told it last."""

    __tablename__ = "episodes"

    id: Mapped[Id]
    site: Mapped[str] = mapped_column(String(64))
    person: Mapped[str] = mapped_column(String(200), index=True)
    state: Mapped[str] = mapped_column(String(12))  # none, incorrect
    status: Mapped[str] = mapped_column(String(8))  # open, closed
    start: Mapped[Micros]
    end: Mapped[Micros]
    at: Mapped[Micros] = mapped_column(BigInteger, index=True)
    cameras: Mapped[list[str]] = mapped_column(ARRAY(String(64)))  # in order of time
    place_east: Mapped[float | None]  # metres on the site plan, where last
    place_north: Mapped[float | None]
    score: Mapped[float]
    looks: Mapped[int]
    reason: Mapped[str] = mapped_column(String(20))  # why it was closed
    zone: Mapped[str] = mapped_column(String(200), default="")  # name of the zone where it was opened; empty: in none
    policy: Mapped[str] = mapped_column(String(200), default="")  # version that judged it; empty: none
    rule: Mapped[str] = mapped_column(String(200), default="")  # of that policy
    except_roles: Mapped[list[str]] = mapped_column(ARRAY(String(120)))  # whom the rule spares once they are recognised
    # for whom alone the rule is; empty: for everybody. Whoever is not known to be one of them breaks nothing
    roles: Mapped[list[str]] = mapped_column(ARRAY(String(120)), default=list, server_default="{}")
    # why it is no breach, decided by api/exempt.py: the role by which its person is spared, or that the rule is for
    # other roles; empty: it is one
    exempt: Mapped[str] = mapped_column(String(200), default="", server_default="")
    recorded: Mapped[Micros]  # time of the record it was folded from

    review: Mapped[EpisodeReview | None] = relationship(
        primaryjoin="foreign(EpisodeReview.id) == EpisodeRow.id", uselist=False, viewonly=True, lazy="joined")

    __table_args__ = (Index("ix_episodes_start_id", "start", "id"), Index("ix_episodes_site_start", "site", "start"),
                      Index("ix_episodes_cameras", "cameras", postgresql_using="gin"))


class EvidenceRow(Base):
    """A look that shows a breach. One that better looks replaced keeps its row, so that its picture's name is known."""

    __tablename__ = "evidence"

    face: Mapped[Id]
    episode: Mapped[str] = mapped_column(String(200), index=True)
    site: Mapped[str] = mapped_column(String(64))
    camera: Mapped[str] = mapped_column(String(64))
    at: Mapped[Micros]
    box: Mapped[list[Any]]  # x0 y0 x1 y1, pixels of the frame's picture
    look: Mapped[str] = mapped_column(String(12))
    look_score: Mapped[float]
    rank: Mapped[int]  # 0: the best; -1: replaced
    picture: Mapped[str] = mapped_column(String(80), default="")  # in the picture store; empty: none (anonymous site)

    @property
    def key(self) -> str:
        """The picture's name in an address: it tells nothing."""
        return self.picture.rsplit("/", 1)[-1].removesuffix(".jpg")


def visible(scope: Scope, site: Any = EpisodeRow.site, cameras: Any = EpisodeRow.cameras) -> ColumnElement[bool]:
    """Of a site whole, or with one of its cameras: who has any camera of an episode may know of it."""
    return scope.shows_any(site, cameras)


def covers(scope: Scope, site: str, cameras: Sequence[str]) -> bool:
    """The same for a row at hand."""
    return any(scope.covers(site, camera) for camera in ("", *cameras))


def find(session: Session, id: str, scope: Scope) -> EpisodeRow | None:
    """One that the scope shows."""
    return session.scalar(select(EpisodeRow).where(EpisodeRow.id == id, visible(scope)))


class Episodes:
    """`episodes` -> episodes, evidence, pictures. Of an id the greater `at` wins, of two alike the closed one."""

    name, topic = "episodes", "episodes"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        from api import exempt

        exempt.hold(session, {told.message.site for told in messages
                              if told.message and (told.message.except_roles or told.message.roles)})
        newest: dict[str, Told] = {}
        for told in messages:
            if told.message is None:
                continue
            known = newest.get(told.message.id)
            if known is None or _rank(told.message) > _rank(known.message):
                newest[told.message.id] = told
        before, of_roles = dict[str, tuple[int, bool]](), set[str]()
        for id_, at, status, roles in session.execute(select(
                EpisodeRow.id, EpisodeRow.at, EpisodeRow.status, EpisodeRow.roles).where(EpisodeRow.id.in_(newest))):
            before[id_] = at, status == "closed"
            of_roles |= {id_} if roles else set()
        fresh = [told for id_, told in newest.items() if id_ not in before or _rank(told.message) > before[id_]]
        if not fresh:
            return
        self._evidence(session, context, [told.message for told in fresh])
        write = insert(EpisodeRow)
        rows = [_values(told) for told in fresh]
        session.execute(write.on_conflict_do_update(
            index_elements=["id"], set_={name: write.excluded[name] for name in rows[0] if name != "id"}), rows)
        theirs = {e.person for e in (told.message for told in fresh) if e.except_roles or e.roles or e.id in of_roles}
        exempt.of_people(session, theirs, newest.keys() - before.keys())
        spared = set(session.scalars(select(EpisodeRow.id).where(
            EpisodeRow.id.in_([told.message.id for told in fresh]), EpisodeRow.exempt != "")))
        now = time.time_ns() // 1000
        for told in fresh:
            if now - told.at < FRESH and told.message.id not in spared:
                live.tell(session, _event(told.message, told.message.id not in before))

    def _evidence(self, session: Session, context: Context, episodes: list[Episode]) -> None:
        """Pictures before rows: a row's picture is there. Replaced ones go when the transaction is through."""
        kept = {row.face: row for row in session.scalars(
            select(EvidenceRow).where(EvidenceRow.episode.in_([each.id for each in episodes])))}
        store, rows, current = pictures.store(context.settings), list[dict[str, Any]](), set[str]()
        for episode in episodes:
            for rank, one in enumerate(episode.evidence):
                known, name = kept.get(one.face), pictures.name(FOLDER, one.face) if one.picture else ""
                if name and (known is None or known.picture != name or known.rank < 0):
                    store.put(name, one.picture)
                current.add(one.face)
                rows.append({"face": one.face, "episode": episode.id, "site": episode.site, "camera": one.camera,
                             "at": one.at, "box": list(one.box), "look": one.look, "look_score": one.look_score,
                             "rank": rank, "picture": name})
        if rows:
            write = insert(EvidenceRow)
            rows = list({row["face"]: row for row in rows}.values())  # a face shows one breach
            session.execute(write.on_conflict_do_update(
                index_elements=["face"], set_={name: write.excluded[name] for name in rows[0] if name != "face"}), rows)
        replaced = [row for row in kept.values() if row.face not in current and row.rank >= 0]
        if replaced:
            session.execute(update(EvidenceRow).where(EvidenceRow.face.in_([row.face for row in replaced]))
                            .values(rank=-1))
            gone = [row.picture for row in replaced if row.picture]
            context.after.append(lambda: store.delete(gone))

    def clear(self, session: Session, context: Context, since: int) -> None:
        those = select(EpisodeRow.id).where(EpisodeRow.recorded >= since)
        session.execute(delete(EvidenceRow).where(EvidenceRow.episode.in_(those), EvidenceRow.rank >= 0))
        session.execute(delete(EpisodeRow).where(EpisodeRow.recorded >= since))


def _rank(episode: Episode) -> tuple[int, bool]:
    return episode.at, episode.status == "closed"


def _values(told: Told) -> dict[str, Any]:
    e: Episode = told.message
    east, north = e.place or (None, None)
    return {"id": e.id, "site": e.site, "person": e.person, "state": e.state, "status": e.status, "start": e.start,
            "end": e.end, "at": e.at, "cameras": list(e.cameras), "place_east": east, "place_north": north,
            "score": e.score, "looks": e.looks, "reason": e.reason, "zone": e.zone, "policy": e.policy,
            "rule": e.rule, "except_roles": list(e.except_roles), "roles": list(e.roles),
            "recorded": told.at}


def _event(e: Episode, new: bool) -> live.Event:
    kind = "episode.closed" if e.status == "closed" else "episode.opened" if new else "episode.changed"
    return live.Event(kind, {"id": e.id, "state": e.state, "status": e.status, "start": e.start, "end": e.end,
                             "score": round(e.score, 3)}, e.site, e.cameras[-1] if e.cameras else "",
                      "compliance.view", cameras=live.of_cameras(e.cameras))


FOLDS = [Episodes()]
