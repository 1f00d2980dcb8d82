"""Episodes: found, shown with their evidence, and worked through: acknowledged, assigned, closed with an action."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, JSONBody, PathParameter, QueryParameter
from msgspec import Meta
from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api import alerts, fields, live, pictures
from api.auth import grants_of, needs
from api.db import now
from api.dependencies import By, Config, Db
from api.exempt import only_for
from api.pages import Cursor, Limit, Page, take
from api.permissions import Scope, Who
from api.problems import Problem, missing
from api.ranges import Camera, Site
from api.routes.filters import LAST, Assigned, Person, Since, StreamId, Until, Zone
from api.tables import audit, erased
from api.tables.episodes import FOLDER, EpisodeReview, EpisodeRow, EpisodeStep, EvidenceRow, covers, find, visible
from api.tables.trajectories import LegRow
from api.tables.users import User

EpisodeId = Annotated[str, Meta(min_length=1, max_length=200, pattern=fields.CLEAN)]
UserId = Annotated[str, Meta(max_length=36, pattern=r"^([0-9a-f]{32}|me)?$")]
Key = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
Status = Literal["new", "acknowledged", "closed"]
Verb = Literal["acknowledge", "assign", "comment", "close", "reopen"]
# what was done about it; `other` and `false_alarm` want a text too
Action = Literal["mask_given", "told", "trained", "sent_away", "escalated", "exempt", "false_alarm", "other"]
TEXT_WANTED = ("other", "false_alarm")
EXPORTED = 50_000  # most rows of a file


class Reviewed(msgspec.Struct):
    """What people have decided so far."""

    status: Status
    assigned: str = ""  # user id; empty: nobody
    action: str = ""  # corrective action it was closed with
    note: str = ""  # and in words
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    closed_by: str = ""
    closed_at: datetime | None = None


class EpisodeView(msgspec.Struct):
    """One breach by one person, as far as one may see the cameras it was seen by."""

    id: str
    site: str
    person: str  # id of the trajectory
    state: Literal["none", "incorrect"]  # the worst seen in it
    status: Literal["open", "closed"]
    start: int  # µs UTC
    end: int  # last look in breach so far, µs UTC
    at: int  # of the newest word of it, µs UTC
    cameras: list[str]  # in order of time
    place: tuple[float, float] | None  # where last, metres on the site plan
    score: float  # 0..1
    looks: int
    reason: str  # why the stream closed it
    zone: str
    policy: str  # version that judged it
    rule: str  # of that policy
    exempt: str  # why it is none: role by which its person is spared, or that the rule is for others; empty: a breach
    review: Reviewed
    only_for: list[str] = []  # roles for whom the rule is, when the person is not known to have one of them


class EvidenceView(msgspec.Struct):
    """A look that shows the breach."""

    key: str  # of its picture; empty: none was kept
    camera: str
    at: int  # µs UTC
    box: list[float]  # x0 y0 x1 y1, pixels of the frame's picture
    look: str
    look_score: float


class EpisodeLeg(msgspec.Struct):
    """A stretch of the person's route."""

    camera: str
    start: int  # µs UTC
    end: int
    place: tuple[float, float] | None
    state: str


class StepView(msgspec.Struct):
    """One thing that somebody did to an episode."""

    id: int
    at: datetime
    user: str
    verb: Verb
    text: str
    action: str
    assigned: str


class EpisodeWhole(msgspec.Struct):
    """An episode with its pictures, the person's route, and its history."""

    episode: EpisodeView
    evidence: list[EvidenceView]
    legs: list[EpisodeLeg]
    history: list[StepView]


class Step(msgspec.Struct):
    """Something to do to an episode."""

    verb: Verb
    text: fields.Words = ""  # of a comment, of what was done
    action: Action | None = None  # corrective action of a close
    user: UserId = ""  # of an assign: to whom, `me`, or nobody


class Steps(Step, kw_only=True):
    """The same thing to do to several."""

    episodes: Annotated[list[EpisodeId], Meta(min_length=1, max_length=200)]


class Left(msgspec.Struct):
    """One to which it could not be done."""

    id: str
    status: int
    detail: str


class Done(msgspec.Struct):
    """What became of a bulk step."""

    done: list[str]
    left: list[Left]


# -- what one may see ------------------------------------------------------------------------------------------------


def view(row: EpisodeRow, scope: Scope) -> EpisodeView:
    """Who has some cameras of it only sees those: the others would tell where the person went."""
    mine = [camera for camera in row.cameras if scope.covers(row.site, camera)]
    last = bool(row.cameras) and row.cameras[-1] in mine
    place = (row.place_east, row.place_north) if last and row.place_east is not None else None
    return EpisodeView(
        row.id, row.site, row.person, row.state, row.status, row.start, row.end, row.at, mine,  # type: ignore[arg-type]
        place, row.score, row.looks, row.reason, row.zone, row.policy, row.rule, row.exempt,  # type: ignore[arg-type]
        reviewed(row.review), list(row.roles) if row.roles and row.exempt == only_for(row.roles) else [],
    )  # fmt: skip


def reviewed(review: EpisodeReview | None) -> Reviewed:
    if review is None:
        return Reviewed("new")
    return Reviewed(review.status, review.assigned, review.action, review.note,  # type: ignore[arg-type]
                    review.acknowledged_by, review.acknowledged_at, review.closed_by, review.closed_at)


def wanted(who: Who, scope: Scope, since: int, until: int, site: str, camera: str, state: str | None,
           status: str | None, review: str | None, assigned: str, person: str, zone: str, exempt: str) -> Select[Any]:
    """Episodes of the scope that fit every filter that was given."""
    query = select(EpisodeRow).outerjoin(EpisodeReview, EpisodeReview.id == EpisodeRow.id).where(visible(scope))
    query = query.where(EpisodeRow.start >= since, EpisodeRow.start < until)
    if site:
        query = query.where(EpisodeRow.site == site)
    if camera:
        query = query.where(EpisodeRow.cameras.overlap([camera]), scope.asking(EpisodeRow.site, camera))
    for column, value in ((EpisodeRow.state, state), (EpisodeRow.status, status)):
        if value:
            query = query.where(column == value)
    if review:
        query = query.where(func.coalesce(EpisodeReview.status, "new") == review)
    if assigned:
        query = query.where(EpisodeReview.assigned == (who.id if assigned == "me" else assigned))
    if person:
        query = query.where(EpisodeRow.person == person)
    if zone:
        query = query.where(EpisodeRow.zone == zone)
    if exempt != "all":
        query = query.where(EpisodeRow.exempt == "" if exempt == "no" else EpisodeRow.exempt != "")
    return query


State = Literal["none", "incorrect"]
AnyState = Annotated[State | None, QueryParameter(name="state")]  # Litestar keeps `state` for itself
Whether = Literal["open", "closed"]
Exempt = Annotated[Literal["no", "only", "all"], QueryParameter(
    description="of people whom the rule spares, once they were recognised, or for whom it is not: no breaches")]


@get("/", opt=needs("compliance.view"), sync_to_thread=True, summary="Episodes, the newest first")
def every(db: Db, who: By, since: Since = 0, until: Until = LAST,
          site: Site = "", camera: Camera = "",
          mask: AnyState = None, status: FromQuery[Whether | None] = None,
          review: FromQuery[Status | None] = None, assigned: Assigned = "",
          person: Person = "", zone: Zone = "", exempt: Exempt = "no", cursor: Cursor = None,
          limit: Limit = 50) -> Page[EpisodeView]:
    """`since` and `until` are about the start. `assigned`: a user's id, or `me`."""
    scope = who.scope("compliance.view")
    query = wanted(who, scope, since, until, site, camera, mask, status, review, assigned, person, zone, exempt)
    return take(db, query, [EpisodeRow.start, EpisodeRow.id], lambda row: view(row, scope), cursor, limit)


@get("/export.csv", opt=needs("compliance.export"), sync_to_thread=True, media_type="text/csv",
     summary="The same as a CSV file", responses={200: ResponseSpec(str, description="The file", media_type="text/csv",
                                                                    generate_examples=False)})
def export(db: Db, who: By, since: Since = 0, until: Until = LAST, site: Site = "", camera: Camera = "",
           mask: AnyState = None,
           status: FromQuery[Whether | None] = None, review: FromQuery[Status | None] = None,
           assigned: Assigned = "", person: Person = "", zone: Zone = "", exempt: Exempt = "no"
           ) -> Response[bytes]:
    """At most 50,000 rows, the newest. Times are ISO 8601, UTC."""
    scope = who.scope("compliance.export")
    query = wanted(who, scope, since, until, site, camera, mask, status, review, assigned, person, zone, exempt)
    query = query.order_by(EpisodeRow.start.desc(), EpisodeRow.id.desc()).limit(EXPORTED)
    rows = db.scalars(query.execution_options(yield_per=1000))
    written, count = io.StringIO(), 0
    file = csv.writer(written)
    file.writerow(["id", "site", "cameras", "zone", "state", "status", "start", "end", "seconds", "score", "looks",
                   "reason", "policy", "rule", "exempt", "review", "assigned", "action", "note", "acknowledged_at",
                   "closed_at"])
    for row in rows:
        one, count = view(row, scope), count + 1
        r = one.review
        file.writerow([tame(cell) for cell in (
            one.id, one.site, " ".join(one.cameras), one.zone, one.state, one.status, iso(one.start), iso(one.end),
            f"{(one.end - one.start) / 1e6:.1f}", f"{one.score:.3f}", str(one.looks), one.reason, one.policy, one.rule,
            one.exempt, r.status, r.assigned, r.action, r.note,
            r.acknowledged_at.isoformat() if r.acknowledged_at else "",
            r.closed_at.isoformat() if r.closed_at else "")])
    audit.write(db, who.id, "episode.export", site=site, camera=camera, address=who.address, rows=count)
    # the mark makes Excel take it for UTF-8
    return Response(b"\xef\xbb\xbf" + written.getvalue().encode(), media_type="text/csv; charset=utf-8",
                    headers={"content-disposition": 'attachment; filename="episodes.csv"', "cache-control": "no-store"})


def iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds")


def tame(cell: str) -> str:
    """A spreadsheet takes what begins so for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


@get("/{id:str}", opt=needs("compliance.view"), sync_to_thread=True,
     summary="One episode with its evidence, route and history")
def one(db: Db, who: By, id: StreamId) -> EpisodeWhole:
    scope = who.scope("compliance.view")
    row = find(db, id, scope)
    if row is None:
        raise missing("episode", id)
    looks = db.scalars(select(EvidenceRow).where(EvidenceRow.episode == id, EvidenceRow.rank >= 0)
                       .order_by(EvidenceRow.rank))
    legs = db.scalars(select(LegRow).where(LegRow.trajectory == row.person).order_by(LegRow.number))
    return EpisodeWhole(
        view(row, scope),
        [EvidenceView(e.key, e.camera, e.at, e.box, e.look, e.look_score) for e in looks
         if scope.covers(e.site, e.camera)],
        [EpisodeLeg(leg.camera, leg.start, leg.end, (leg.east, leg.north) if leg.east is not None else None,  # type: ignore[arg-type]
                 leg.state) for leg in legs if scope.covers(leg.site, leg.camera)],
        history(db, id),
    )


def history(db: Session, id: str) -> list[StepView]:
    rows = db.scalars(select(EpisodeStep).where(EpisodeStep.episode == id).order_by(EpisodeStep.id))
    return [StepView(s.id, s.at, s.user, s.verb, s.text, s.action, s.assigned) for s in rows]  # type: ignore[arg-type]


@get("/{id:str}/evidence/{key:str}", opt=needs("compliance.view"), sync_to_thread=True, media_type="image/jpeg",
     summary="A picture that shows the breach", response_headers=[ResponseHeader(name="ETag", documentation_only=True)],
     responses={200: ResponseSpec(bytes, description="JPEG", media_type="image/jpeg", generate_examples=False),
                304: ResponseSpec(None, description="The picture with this ETag is the newest")})
def picture(request: Request[Any, Any, Any], db: Db, settings: Config, who: By, id: StreamId,
            key: Key) -> Response[bytes]:
    """`key` is one of the episode's `evidence`. Every look is in the audit log."""
    name = f"{FOLDER}/{key}.jpg"
    found = db.scalar(select(EvidenceRow).where(EvidenceRow.episode == id, EvidenceRow.picture == name,
                                                EvidenceRow.rank >= 0))
    if found is None or not (who.may("compliance.view", found.site, found.camera)
                             or who.may("people.view", found.site, found.camera)):
        raise missing("picture", key)
    jpeg = pictures.store(settings).get(name)
    if jpeg is None:
        raise missing("picture", key)
    audit.look(db, who.id, "face.look", found.face, site=found.site, camera=found.camera, address=who.address,
                episode=id)
    return pictures.answer(request, jpeg)


# -- what one may do -------------------------------------------------------------------------------------------------


@post("/{id:str}/steps", opt=needs("compliance.review"), sync_to_thread=True, status_code=200,
      summary="Acknowledge, assign, comment, close or reopen an episode")
def step(db: Db, who: By, id: StreamId, data: JSONBody[Step]) -> EpisodeView:
    """What is so already changes nothing. A close wants `action`, `text` or both; acknowledging stops escalation."""
    return view(take_step(db, who, id, data), who.scope("compliance.view"))


@post("/steps", opt=needs("compliance.review"), sync_to_thread=True, status_code=200,
      summary="The same step for up to 200 episodes")
def steps(db: Db, who: By, data: JSONBody[Steps]) -> Done:
    """What can be done is done; `left` says for the others why not."""
    done, left = list[str](), list[Left]()
    for id in sorted(set(data.episodes)):  # in one order, so that two who do the same do not wait for each other
        try:
            take_step(db, who, id, data)
            done.append(id)
        except Problem as problem:
            left.append(Left(id, problem.status_code, problem.detail))
    return Done(done, left)


def take_step(db: Session, who: Who, id: str, data: Step) -> EpisodeRow:
    """Raises Problem 404, 403, 409 or 422 before anything is written."""
    erased.together(db)
    row = find(db, id, who.scope("compliance.view"))
    if row is None:
        raise missing("episode", id)
    if not covers(who.scope("compliance.review"), row.site, row.cameras):
        raise Problem(403, "not allowed", f"expected the permission compliance.review at {row.site} or for a camera "
                      f"of this episode, {who.name} does not have it")
    to = who.id if data.user == "me" else data.user
    check(db, row, data, to)
    db.execute(insert(EpisodeReview).values(id=id).on_conflict_do_nothing())
    review = db.scalars(select(EpisodeReview).where(EpisodeReview.id == id).with_for_update()
                        .execution_options(populate_existing=True)).one()
    if not change(review, who, data, to):
        return refreshed(db, row)
    review.changed = now()
    db.add(EpisodeStep(episode=id, user=who.id, verb=data.verb, text=data.text,
                       action=data.action or "" if data.verb == "close" else "",
                       assigned=to if data.verb == "assign" else ""))
    if data.verb in ("acknowledge", "close"):
        alerts.acknowledge(db, [id], who.id)
    camera = row.cameras[-1] if row.cameras else ""
    audit.write(db, who.id, f"episode.{data.verb}", id, site=row.site, camera=camera, address=who.address,
                **({"corrective": data.action} if data.action else {}), **({"assigned": to} if to else {}))
    live.tell(db, live.Event("episode.reviewed", {"id": id, "verb": data.verb, "status": review.status,
                                                  "assigned": review.assigned, "by": who.id}, row.site, camera,
                             "compliance.view", cameras=live.of_cameras(row.cameras)))
    return refreshed(db, row)


def check(db: Session, row: EpisodeRow, data: Step, to: str) -> None:
    """Whether the step has what it needs."""
    if data.verb == "comment" and not data.text.strip():
        raise Problem(422, "no text", "expected `text` with a comment")
    if data.verb == "close":
        if not data.action and not data.text.strip():
            raise Problem(422, "no corrective action", "expected `action`, `text` or both: what was done about it")
        if data.action in TEXT_WANTED and not data.text.strip():
            raise Problem(422, "no text", f"expected `text` with the action {data.action}")
    if data.verb == "assign" and to:
        user = db.get(User, to)
        if user is None or not user.active:
            raise Problem(422, "no such user", f"expected the id of an active user in `user`, got {to!r}")
        if not covers(Who(user.id, user.name, "", grants_of(db, user.id, now())).scope("compliance.view"), row.site,
                      row.cameras):
            raise Problem(422, "cannot be assigned", f"expected a user who may see this episode, {user.name} may not")


def change(review: EpisodeReview, who: Who, data: Step, to: str) -> bool:
    """The step taken; False when it is so already."""
    at = now()
    match data.verb:
        case "acknowledge":
            if review.status != "new":
                return False
            review.status, review.acknowledged_by, review.acknowledged_at = "acknowledged", who.id, at
        case "assign":
            if review.assigned == to:
                return False
            review.assigned = to
        case "close":
            if review.status == "closed":
                raise Problem(409, "closed already", "expected an episode that is not closed; reopen it first")
            review.status, review.closed_by, review.closed_at = "closed", who.id, at
            review.action, review.note = data.action or "", data.text
            if review.acknowledged_at is None:
                review.acknowledged_by, review.acknowledged_at = who.id, at
        case "reopen":
            if review.status != "closed":
                return False
            review.status, review.closed_by, review.closed_at = "acknowledged", "", None
            review.action, review.note = "", ""
    return True


def refreshed(db: Session, row: EpisodeRow) -> EpisodeRow:
    db.flush()
    db.expire(row, ["review"])
    return row


router = Router("/v1/episodes", route_handlers=[every, export, one, picture, step, steps], tags=["episodes"])
