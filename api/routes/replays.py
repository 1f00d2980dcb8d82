"""Replays: a stretch of the log judged again with other models, thresholds or rules, and what that would change."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

import msgspec
from kafka.errors import KafkaError
from litestar import Request, Response, Router, delete, get, post
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromQuery, JSONBody, PathParameter, QueryParameter
from msgspec import Meta
from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from agents import replay as edge
from api import fields, pages, pictures, ranges, replays
from api.auth import needs
from api.db import now
from api.dependencies import By, Config, Db
from api.differences import Breach, Pair, Shown, compare, counted
from api.pages import Cursor, Limit, Page
from api.permissions import Who
from api.problems import Problem, missing
from api.replays import OVERRIDES, Totals
from api.routes import policies, sites
from api.routes.filters import MadeId
from api.routes.policies import PolicyView
from api.tables import audit
from api.tables import replays as table
from api.tables.cameras import CameraRow
from api.tables.episodes import EpisodeRow, EvidenceRow
from api.tables.replays import OVER, Replay, ReplayEpisode
from api.tables.sightings import Sighting
from api.tables.sites import Site
from api.tables.trajectories import LegRow
from models import manifest
from pipeline.messages import STATES, Required, Rule
from pipeline.policy import MOST_RULES, Written, faults
from pipeline.settings import Settings

LOCK = 7_041_007  # advisory: runs are queued one at a time, so that the queue keeps its bound
MOST_CAMERAS = 200
CameraId = Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
PolicyId = Annotated[str, Meta(max_length=80, pattern=fields.CLEAN)]
Model = Annotated[str, Meta(max_length=40, pattern=fields.CLEAN)]
Against = Annotated[str, QueryParameter(pattern=r"^([0-9a-f]{32}|live)$", description="id of a run, or `live`: what "
                                        "was recorded as it happened")]
Key = Annotated[str, PathParameter(pattern=r"^[0-9a-f]{32}$")]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
AnyState = Annotated[State | None, QueryParameter(name="state")]  # Litestar keeps `state` for itself
Kind = Literal["gained", "lost", "changed", "same"]
DETAIL = ResponseHeader(name="ETag", documentation_only=True)


class Draft(msgspec.Struct):
    """Rules that are no version of a policy (yet)."""

    rules: Annotated[list[Rule], Meta(max_length=MOST_RULES)]
    otherwise: Required = "worn"


class NewReplay(msgspec.Struct):
    """A run to be made. What is left out is as it is in force."""

    name: fields.Name
    since: fields.Micros  # included
    until: fields.Micros  # not included
    site: fields.AnySite = ""  # every camera of it that one may see; or name the cameras
    cameras: Annotated[list[CameraId], Meta(max_length=MOST_CAMERAS)] = []  # of one site
    models: Annotated[dict[Model, Model], Meta(max_length=10)] = {}  # model -> weights, of GET /v1/replays/options
    settings: Annotated[dict[Model, float], Meta(max_length=20)] = {}  # name -> value, of GET /v1/replays/options
    policy: PolicyId = ""  # a version by which all of it is judged; empty: by what held when each frame was taken
    draft: Draft | None = None  # or rules that are no version yet


class Progress(msgspec.Struct):
    """How far a run is."""

    done: int  # records of the log read
    total: int  # to be read; 0: not known yet
    frames: int  # of these cameras and this stretch, run through the stages
    seconds: float  # of the stretch behind it
    of: float  # the whole stretch
    eta: float | None  # seconds until it is through, if it goes on so


class ReplayView(msgspec.Struct, kw_only=True):
    """A run."""

    id: str
    name: str
    site: str
    cameras: list[str]
    since: int  # µs UTC, included
    until: int  # µs UTC, not included
    policy: str  # version by which all of it is judged; empty: by what held when each frame was taken, or by a draft
    draft: bool  # judged by rules that are no version
    settings: dict[str, float]  # that differ from those in force when it was asked for
    models: dict[str, str]  # model -> weights that are not those in force
    used: dict[str, str] | None  # once it is done: model -> first 12 hex digits of its SHA-256
    by: str  # user id
    made: datetime
    started: datetime | None
    ended: datetime | None
    state: State
    cancelling: bool  # it was told to stop and has not yet
    attempt: int  # how often it was begun: a worker that dies leaves it to the next
    progress: Progress
    log_begins: int | None  # the log no longer holds what is older, µs UTC; null: it holds the whole stretch
    note: str  # that in words; empty: nothing to say
    error: str  # why it failed
    totals: Totals | None  # once it is done


class ReplayWhole(ReplayView, kw_only=True):
    """A run with the rules that judge it."""

    rules: Draft | None  # of the draft or the version; null: by what held when each frame was taken


class Weights(msgspec.Struct):
    """What a model may run with."""

    model: str
    does: str
    weights: list[str]  # the first is in force


class Override(msgspec.Struct):
    """A setting that a run may have otherwise."""

    name: str
    variable: str  # by which it is set for good, at start
    value: float  # in force
    least: float
    most: float
    about: str


class Options(msgspec.Struct):
    """What a run may differ in, and what can still be replayed."""

    models: list[Weights]
    settings: list[Override]
    longest: float  # seconds of one run
    queue: int  # runs that may wait or run at a time
    waiting: int  # that do
    log_begins: dict[str, int]  # camera -> from when on the log holds all of it, µs UTC; 0: nothing was dropped


class EvidencePart(msgspec.Struct):
    """A look that shows the breach."""

    picture: str  # its address; empty: none was kept
    camera: str
    at: int  # µs UTC
    box: tuple[float, float, float, float]  # x0 y0 x1 y1, pixels of the frame's picture
    look: str
    look_score: float


class ReplayBreach(msgspec.Struct):
    """An episode of a run, or of what was recorded."""

    id: str
    person: str
    state: Literal["none", "incorrect"]
    status: Literal["open", "closed"]
    start: int  # µs UTC
    end: int
    cameras: list[str]
    score: float
    looks: int
    reason: str
    zone: str
    policy: str
    rule: str
    exempt: str  # of what was recorded: why it was no breach, as in an episode; a run recognises nobody
    cut: bool  # it began before the stretch or goes on after it: only state and zone were compared
    evidence: list[EvidencePart]
    roles: list[str] = []  # for whom alone the rule is; empty: for everybody


class Difference(msgspec.Struct):
    """A breach on either side, or on both."""

    kind: Kind  # gained: only in this run · lost: only in the other
    changed: list[str]  # fields that are not alike
    this: ReplayBreach | None
    other: ReplayBreach | None


class DiffView(msgspec.Struct):
    """What a run has that the other has not, and the other way round."""

    this: str  # run
    other: str  # run, or `live`
    site: str
    cameras: list[str]
    since: int  # µs UTC
    until: int
    counts: dict[str, int]  # kind -> episodes
    totals: Totals
    other_totals: Totals
    items: list[Difference]  # in the order of their start
    next: str | None  # give it as `cursor`


class Adoption(msgspec.Struct):
    """How the draft's rules are saved."""

    name: fields.Name
    note: fields.Words = ""
    activate: bool = False  # at once


class SettingToSet(msgspec.Struct):
    """A start-up setting: it holds for every camera, once the workers have been started again with it."""

    variable: str
    value: float
    value_now: float


class WeightsToUse(msgspec.Struct):
    """Weights are chosen by the installation, not by a setting."""

    model: str
    weights: str
    how: str


class Adopted(msgspec.Struct):
    """What was done, and what is left to do by whoever runs the workers."""

    policy: PolicyView | None  # the version that was saved; null: the run had no draft
    settings: list[SettingToSet]
    models: list[WeightsToUse]


# -- one run ---------------------------------------------------------------------------------------------------------


def view(row: Replay) -> ReplayView:
    return ReplayView(**_columns(row))


def _columns(row: Replay) -> dict[str, Any]:
    plain = ("id", "name", "site", "cameras", "since", "until", "policy", "draft", "settings", "models", "used", "by",
             "made", "started", "ended", "state", "attempt", "log_begins", "error")
    reached = 0.0 if row.reached is None else (row.reached - row.since) / 1e6
    of = (row.until - row.since) / 1e6
    return {name: getattr(row, name) for name in plain} | {
        "cancelling": row.cancel and row.state not in OVER,
        "progress": Progress(row.done, row.total, row.frames, of if row.state == "done" else round(reached, 3), of,
                             replays.eta(row)),
        "note": "" if row.log_begins is None else f"expected frames since {row.since}, the log begins at "
                f"{row.log_begins}: {(row.log_begins - row.since) / 1e6:.0f} s of the stretch are no longer there",
        "totals": msgspec.convert(row.totals, Totals) if row.totals is not None else None}


def whole(row: Replay) -> ReplayWhole:
    written = msgspec.convert(row.written, Written) if row.written else None
    return ReplayWhole(**_columns(row), rules=Draft(list(written.rules), written.otherwise) if written else None)


def find(db: Session, who: Who, id: str, permission: str = "compliance.view", lock: bool = False) -> Replay:
    """Raises Problem 404, 403."""
    row = table.find(db, id, who.scope("compliance.view"), lock)
    if row is None:
        raise missing("replay", id)
    if permission != "compliance.view" and not table.covers(who.scope(permission), row.site, row.cameras):
        raise Problem(403, "not allowed", f"expected the permission {permission} for every camera of this run")
    return row


def chosen(db: Session, who: Who, data: NewReplay) -> tuple[str, list[str]]:
    """The site and the cameras of a run. Raises Problem 404, 403, 422."""
    if bool(data.site) == bool(data.cameras):
        raise Problem(422, "which cameras", "expected `site` or `cameras`, got " + ("both" if data.site else "neither"))
    sees, runs = who.scope("compliance.view"), who.scope("compliance.run")
    if data.site:
        site = sites.find(db, who, data.site).id
        rows = db.scalars(select(CameraRow).where(CameraRow.site == site, runs.where(CameraRow.site, CameraRow.id))
                          .order_by(CameraRow.id).limit(MOST_CAMERAS + 1)).all()
        if not rows:
            count = db.scalar(select(func.count()).select_from(CameraRow).where(CameraRow.site == site))
            if count and not runs.covers(site):
                raise Problem(403, "not allowed", f"expected the permission compliance.run at {site!r}")
            raise Problem(422, "no cameras", f"expected a site with cameras, {site!r} has none")
        if len(rows) > MOST_CAMERAS:
            raise Problem(422, "too many cameras", f"expected at most {MOST_CAMERAS} cameras, {site!r} has more: name "
                          "some of them")
        return site, [row.id for row in rows]
    there = {row.id: row for row in db.scalars(select(CameraRow).where(CameraRow.id.in_(data.cameras)))}
    for id_ in data.cameras:
        row = there.get(id_)
        if row is None or not sees.covers(row.site, id_):
            raise missing("camera", id_)
        if not runs.covers(row.site, id_):
            raise Problem(403, "not allowed", f"expected the permission compliance.run for {id_!r}")
    of = sorted({row.site for row in there.values()})
    if len(of) > 1:
        raise Problem(422, "several sites", f"expected cameras of one site, got cameras of {', '.join(of)}: a policy "
                      "and people's routes are a site's own")
    return of[0], sorted(there)


def judged(db: Session, who: Who, data: NewReplay, site: str, cameras: Sequence[str]) -> Written | None:
    """The rules that judge the run, with the zones that the cameras have now. Raises Problem 404, 422."""
    if data.policy and data.draft:
        raise Problem(422, "two policies", "expected `policy` or `draft`, got both")
    if not data.policy and data.draft is None:
        return None
    zones = policies.zones_of(db, site)
    if data.policy:
        row = policies.find(db, who, data.policy)
        if row.site != site:
            raise Problem(422, "policy of another site", f"expected a version of {site!r}, got {row.id!r}")
        written = policies.as_now(db, row)
    else:
        assert data.draft is not None  # noqa: S101 -- one of them is
        time_zone = db.get_one(Site, site).time_zone
        written = Written(time_zone=time_zone, otherwise=data.draft.otherwise, rules=tuple(data.draft.rules))
        if found := faults(written, zones):
            raise Problem(422, "policy cannot be taken", "; ".join(found)[:2000], errors=found[:50])
    return msgspec.structs.replace(written, zones={camera: zones.get(camera, ()) for camera in cameras})


def overridden(settings: Settings, wanted: dict[str, float]) -> dict[str, float]:
    """What differs from what is in force. Raises Problem 422 with every fault."""
    found = [f"{name}: expected one of {', '.join(OVERRIDES)}" for name in wanted if name not in OVERRIDES]
    for name, value in wanted.items():
        least, most = OVERRIDES.get(name, (value, value))
        if not least <= value <= most:
            found.append(f"{name}: expected {least:g}..{most:g}, got {value:g}")
    if found:
        raise Problem(422, "settings cannot be taken", "; ".join(found)[:2000], errors=found)
    return {name: float(value) for name, value in sorted(wanted.items()) if value != getattr(settings, name)}


def modelled(settings: Settings, wanted: dict[str, str]) -> dict[str, str]:
    """What differs from what is in force. Raises Problem 422."""
    there = replays.choices(settings)
    found = [f"{name}: expected one of the models {', '.join(there)}" for name in wanted if name not in there]
    found += [f"{name}: expected one of {', '.join(there[name]) or 'its weights, none are here'}, got {label!r}"
              for name, label in wanted.items() if name in there and label not in there[name]]
    if found:
        raise Problem(422, "models cannot be taken", "; ".join(found)[:2000], errors=found)
    return {name: label for name, label in sorted(wanted.items()) if label != next(iter(there[name]))}


def held(settings: Settings, cameras: Sequence[str]) -> int:
    """Raises Problem 503."""
    try:
        return edge.log_begins(settings, cameras)
    except (OSError, KafkaError, LookupError) as error:
        raise Problem(503, "not ready", f"the log was not reached: {type(error).__name__}",
                      {"Retry-After": "5"}) from None


def checked(settings: Settings, data: NewReplay) -> None:
    """Raises Problem 422."""
    at = ranges.SECOND * round(now().timestamp())
    if data.since >= data.until:
        raise Problem(422, "no stretch of time", f"expected `since` before `until`, got {data.since} and {data.until}")
    if data.until > at + ranges.MINUTE:
        raise Problem(422, "not yet", f"expected a stretch that has passed, `until` at most {at}, got {data.until}")
    longest = round(settings.replay_longest * ranges.HOUR)
    if data.until - data.since > longest:
        raise Problem(422, "too long", f"expected at most {settings.replay_longest:g} hours, got "
                      f"{(data.until - data.since) / ranges.HOUR:.1f}")


def queued(db: Session) -> int:
    return db.scalar(select(func.count()).select_from(Replay).where(Replay.state.in_(("waiting", "running")))) or 0


@get("/options", opt=needs("compliance.run"), sync_to_thread=True,
     summary="What a run may differ in, and what can still be replayed")
def options(db: Db, who: By, settings: Config, site: FromQuery[ranges.Site] = "") -> Options:
    """`site`: of whose cameras it is told from when on the log holds them."""
    scope = who.scope("compliance.run")
    query = select(CameraRow.id).where(scope.where(CameraRow.site, CameraRow.id), CameraRow.site == site)
    cameras = db.scalars(query.order_by(CameraRow.id).limit(MOST_CAMERAS)).all() if site else []
    known = manifest.models()
    models = [Weights(name, known[name].does, list(those)) for name, those in replays.choices(settings).items()]
    about = Settings.model_fields
    values = [Override(name, f"MASKWATCH_{name.upper()}", getattr(settings, name), *bounds,
                       about[name].description or "") for name, bounds in OVERRIDES.items()]
    begins = _each(settings, cameras)
    return Options(models, values, settings.replay_longest * 3600, settings.replay_queue, queued(db), begins)


def _each(settings: Settings, cameras: Sequence[str]) -> dict[str, int]:
    if not cameras:
        return {}
    try:
        return edge.logs_begin(settings, cameras)
    except (OSError, KafkaError, LookupError) as error:
        raise Problem(503, "not ready", f"the log was not reached: {type(error).__name__}",
                      {"Retry-After": "5"}) from None


@post("/", opt=needs("compliance.run"), sync_to_thread=True, summary="Run a stretch of the log again")
def add(db: Db, who: By, settings: Config, data: JSONBody[NewReplay]) -> ReplayView:
    """It waits until a worker takes it. `log_begins` and `note` say what of the stretch is no longer there."""
    checked(settings, data)
    site, cameras = chosen(db, who, data)
    written = judged(db, who, data, site, cameras)
    row = Replay(
        name=data.name, site=site, cameras=cameras, since=data.since, until=data.until, policy=data.policy,
        draft=data.draft is not None, written=msgspec.to_builtins(written) if written else None, by=who.id,
        settings=overridden(settings, data.settings), models=modelled(settings, data.models))
    begins = held(settings, cameras)
    if begins >= data.until:
        raise Problem(422, "no longer there", f"expected frames from {data.since} to {data.until}, the log begins at "
                      f"{begins}", log_begins=begins)
    row.log_begins = begins if begins > data.since else None
    db.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    if queued(db) >= settings.replay_queue:
        raise Problem(429, "too many runs", f"expected at most {settings.replay_queue} runs that wait or run, there "
                      "are as many: cancel one or wait", {"Retry-After": "60"})
    db.add(row)
    db.flush()
    db.refresh(row)
    audit.write(db, who.id, "replay.add", row.id, site=site, camera=cameras[0] if len(cameras) == 1 else "",
                address=who.address, name=data.name, since=data.since, until=data.until)
    replays.tell(db, row, "replay.changed")
    return view(row)


@get("/", opt=needs("compliance.view"), sync_to_thread=True, summary="Runs, the newest first")
def listed(db: Db, who: By, site: FromQuery[ranges.Site] = "", state_: AnyState = None, cursor: Cursor = None,
           limit: Limit = 50) -> Page[ReplayView]:
    """Those all of whose cameras one may see."""
    query = select(Replay).where(table.visible(who.scope("compliance.view")))
    if site:
        query = query.where(Replay.site == site)
    if state_:
        query = query.where(Replay.state == state_)
    return pages.take(db, query, [Replay.made, Replay.id], view, cursor, limit)


@get("/{replay:str}", opt=needs("compliance.view"), sync_to_thread=True, summary="One run with its rules")
def one(db: Db, who: By, replay: MadeId) -> ReplayWhole:
    return whole(find(db, who, replay))


@post("/{replay:str}/cancel", opt=needs("compliance.run"), sync_to_thread=True, status_code=200,
      summary="Stop a run")
def cancel(db: Db, who: By, replay: MadeId) -> ReplayView:
    """One that runs stops within seconds, and keeps nothing. Of one that is over nothing changes."""
    row = find(db, who, replay, "compliance.run", lock=True)
    if row.state in OVER or row.cancel:
        return view(row)
    row.cancel = True
    if row.state == "waiting":
        row.state, row.ended = "cancelled", now()
    audit.write(db, who.id, "replay.cancel", row.id, site=row.site, address=who.address)
    db.flush()
    db.refresh(row)
    replays.tell(db, row, "replay.changed")
    return view(row)


@delete("/{replay:str}", opt=needs("compliance.remove"), sync_to_thread=True, summary="Remove a run with all of it")
def remove(db: Db, who: By, settings: Config, replay: MadeId) -> None:
    """Its episodes and pictures too. Raises 409 for one that runs."""
    row = find(db, who, replay, "compliance.remove", lock=True)
    if row.state == "running":
        raise Problem(409, "it runs", "expected a run that waits or is over: cancel it first")
    audit.write(db, who.id, "replay.remove", row.id, site=row.site, address=who.address, name=row.name)
    replays.tell(db, row, "replay.removed")
    table.remove(settings, db, [row.id])


@post("/{replay:str}/adopt", opt=needs("cameras.edit"), sync_to_thread=True,
      summary="Save the rules of a run's draft as a version of the site's policy")
def adopt(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, replay: MadeId,
          data: JSONBody[Adoption]) -> Adopted:
    """Needs cameras.edit for the whole site. Thresholds and models are not changed by it: the answer names what to set
    where the workers are started. Raises 409 when the run differs in nothing."""
    row = find(db, who, replay)
    sites.allowed(who, "cameras.edit", row.site)
    saved: PolicyView | None = None
    if row.draft:
        written = msgspec.convert(row.written, Written)
        saved = policies.save(request, db, who, row.site, data.name, list(written.rules), written.otherwise,
                              data.note, data.activate)
    todo = [SettingToSet(f"MASKWATCH_{name.upper()}", value, getattr(settings, name))
            for name, value in row.settings.items()]
    weights = [WeightsToUse(name, label, how(name, label)) for name, label in row.models.items()]
    if not (saved or todo or weights):
        raise Problem(409, "nothing to adopt", "expected a run with a draft, other settings or other models; this one "
                      "has what is in force" + (f" and the version {row.policy}: activate that" if row.policy else ""))
    audit.write(db, who.id, "replay.adopt", row.id, site=row.site, address=who.address,
                policy=saved.id if saved else "")
    return Adopted(saved, todo, weights)


def how(model: str, label: str) -> str:
    if label in manifest.FORMS and manifest.models()[model].source is not None:
        return f"in models/manifest.yaml, `use: {label}` of {model}; then start the workers again"
    return (f"{replays.TRIALS}/{model}.{label}.tflite takes the place of the weights that models/manifest.yaml names "
            f"for {model}, with its SHA-256 there; then start the workers again")


# -- its episodes and pictures ---------------------------------------------------------------------------------------


def of_run(row: ReplayEpisode) -> Breach:
    return Breach(
        row.id, row.person, tuple(row.tracks), row.state, row.status, row.start, row.end, tuple(row.cameras), row.score,
        row.looks, row.reason, row.zone, row.policy, row.rule,
        tuple(msgspec.convert(one, Shown) for one in row.evidence), roles=tuple(row.roles))


def address(run: str, breach: Breach, one: Shown) -> str:
    """Where its picture is had."""
    if not one.picture:
        return ""
    key = one.picture.rsplit("/", 1)[-1].removesuffix(".jpg")
    return f"/v1/replays/{run}/evidence/{key}" if run else f"/v1/episodes/{_quoted(breach.id)}/evidence/{key}"


def _quoted(id: str) -> str:
    return quote(id, safe="")


def shaped(run: str, breach: Breach) -> ReplayBreach:
    """`run`: empty for what was recorded live."""
    return ReplayBreach(
        breach.id, breach.person, breach.state, breach.status, breach.start, breach.end,  # type: ignore[arg-type]
        list(breach.cameras), round(breach.score, 4), breach.looks, breach.reason, breach.zone, breach.policy,
        breach.rule, breach.exempt, breach.cut,
        [EvidencePart(address(run, breach, each), each.camera, each.at, each.box, each.look, each.look_score)
         for each in breach.evidence], list(breach.roles))


@get("/{replay:str}/episodes", opt=needs("compliance.view"), sync_to_thread=True,
     summary="What a run found, the newest first")
def episodes(db: Db, who: By, replay: MadeId, cursor: Cursor = None, limit: Limit = 50) -> Page[ReplayBreach]:
    row = find(db, who, replay)
    query = select(ReplayEpisode).where(ReplayEpisode.run == row.id)
    return pages.take(db, query, [ReplayEpisode.start, ReplayEpisode.id], lambda e: shaped(row.id, of_run(e)), cursor,
                      limit)


@get("/{replay:str}/evidence/{key:str}", opt=needs("compliance.view"), sync_to_thread=True, media_type="image/jpeg",
     summary="A picture that shows a breach of a run", response_headers=[DETAIL],
     responses={200: ResponseSpec(bytes, description="JPEG", media_type="image/jpeg", generate_examples=False),
                304: ResponseSpec(None, description="The picture with this ETag is the newest")})
def picture(request: Request[Any, Any, Any], db: Db, who: By, settings: Config, replay: MadeId, key: Key
            ) -> Response[bytes]:
    """Every look is in the audit log."""
    row = find(db, who, replay)
    name = f"{table.FOLDER}/{row.id}/{key}.jpg"
    found = db.execute(
        text("select one ->> 'face', one ->> 'camera' from replay_episodes, jsonb_array_elements(evidence) as one "
             "where run = :run and one ->> 'picture' = :name limit 1"), {"run": row.id, "name": name}).first()
    if found is None or not who.may("compliance.view", row.site, found[1]):
        raise missing("picture", key)
    jpeg = pictures.store(settings).get(name)
    if jpeg is None:
        raise missing("picture", key)
    audit.look(db, who.id, "face.look", found[0], site=row.site, camera=found[1], address=who.address, replay=row.id)
    return pictures.answer(request, jpeg)


# -- two runs, or a run and what was recorded ------------------------------------------------------------------------


@get("/{replay:str}/diff", opt=needs("compliance.view"), sync_to_thread=True,
     summary="Episodes gained, lost and changed against another run, or against what was recorded live")
def diff(db: Db, who: By, replay: MadeId, against: Against, kind: FromQuery[Kind | None] = None, cursor: Cursor = None,
         limit: Limit = 50) -> DiffView:
    """Both runs must be done and of the same stretch and cameras (422). docs/operating.md says which two episodes count
    as the same breach, and what of it is compared. Who judged it is shown and is not a change."""
    this = over(find(db, who, replay))
    ones = _episodes(db, this)
    if against == "live":
        others, totals, other = live_breaches(db, this), live_totals(db, this), None
    else:
        other = over(find(db, who, against))
        same_stretch(this, other)
        others, totals = _episodes(db, other), msgspec.convert(other.totals, Totals)
    pairs = compare(ones, others)
    counts = counted(pairs)
    fitting = [pair for pair in pairs if (pair.kind == kind if kind else pair.kind != "same")]
    after = _after(cursor) if cursor else None
    left = [pair for pair in fitting if after is None or pair.key > after]
    return DiffView(
        this.id, other.id if other else "live", this.site, this.cameras, this.since, this.until, counts,
        msgspec.convert(this.totals, Totals), totals,
        [_difference(this, other, pair) for pair in left[:limit]],
        _cursor(left[limit - 1]) if len(left) > limit else None)


def over(row: Replay) -> Replay:
    """Raises Problem 409."""
    if row.state != "done":
        raise Problem(409, "not done", f"expected a run that is done, {row.id} is {row.state}")
    return row


def same_stretch(this: Replay, other: Replay) -> None:
    """Raises Problem 422 with what was expected and what came."""
    found = []
    if (this.since, this.until) != (other.since, other.until):
        found.append(f"expected a run from {this.since} to {this.until}, got one from {other.since} to {other.until}")
    if this.cameras != other.cameras:
        found.append(f"expected the cameras {_some(this.cameras)}, got {_some(other.cameras)}")
    if found:
        raise Problem(422, "not comparable", "; ".join(found), errors=found)


def _some(cameras: list[str]) -> str:
    return ", ".join(cameras[:10]) + (f" and {len(cameras) - 10} others" if len(cameras) > 10 else "")


def _difference(this: Replay, other: Replay | None, pair: Pair) -> Difference:
    return Difference(
        cast("Kind", pair.kind), list(pair.changed), shaped(this.id, pair.one) if pair.one else None,
        shaped(other.id if other else "", pair.other) if pair.other else None)


def _episodes(db: Session, row: Replay) -> list[Breach]:
    found = db.scalars(select(ReplayEpisode).where(ReplayEpisode.run == row.id).order_by(ReplayEpisode.start,
                                                                                         ReplayEpisode.id))
    return [of_run(each) for each in found]


def _recorded(run: Replay) -> tuple[ColumnElement[bool], ...]:
    """Episodes of the run's cameras in its stretch; not of another site at which one of them was."""
    return (EpisodeRow.site == run.site, EpisodeRow.cameras.overlap(run.cameras), EpisodeRow.start < run.until,
            EpisodeRow.end >= run.since)


def live_breaches(db: Session, run: Replay) -> list[Breach]:
    """What was recorded of the run's cameras in its stretch. Raises Problem 422 for more than is compared."""
    most = replays.MOST_EPISODES
    rows = db.scalars(select(EpisodeRow).where(
        *_recorded(run)).order_by(EpisodeRow.start, EpisodeRow.id).limit(most + 1)).all()
    if len(rows) > most:
        raise Problem(422, "too much to compare", f"expected at most {most} recorded episodes in the stretch, got more")
    shown: dict[str, list[Shown]] = {}
    tracks: dict[str, list[str]] = {}
    for begin in range(0, len(rows), 1000):
        some = rows[begin:begin + 1000]
        for e in db.scalars(select(EvidenceRow).where(EvidenceRow.episode.in_([r.id for r in some]),
                                                      EvidenceRow.rank >= 0).order_by(EvidenceRow.rank)):
            if e.camera in run.cameras:
                shown.setdefault(e.episode, []).append(Shown(
                    e.face, e.camera, e.at, tuple(e.box), e.look, e.look_score, e.picture))  # type: ignore[arg-type]
        for person, track in db.execute(select(LegRow.trajectory, LegRow.track).where(
                LegRow.trajectory.in_({r.person for r in some}))):
            tracks.setdefault(person, []).append(track)
    mine = set(run.cameras)
    return [Breach(
        r.id, r.person, tuple(tracks.get(r.person, ())), r.state, r.status, r.start, r.end,
        tuple(camera for camera in r.cameras if camera in mine), r.score, r.looks, r.reason, r.zone, r.policy, r.rule,
        tuple(shown.get(r.id, ())), r.start < run.since or r.at >= run.until or not mine.issuperset(r.cameras),
        r.exempt, tuple(r.roles))
        for r in rows]


def live_totals(db: Session, run: Replay) -> Totals:
    """Of a route that reaches over an edge of the stretch, the part within."""
    inside = (LegRow.site == run.site, LegRow.camera.in_(run.cameras), LegRow.start < run.until,
              LegRow.end >= run.since)
    share = (func.least(LegRow.end, run.until) - func.greatest(LegRow.start, run.since)) * 1.0 / func.greatest(
        LegRow.end - LegRow.start, 1)
    part = func.least(func.greatest(share, 0.0), 1.0)
    sums = db.execute(select(*(func.sum(getattr(LegRow, state) * part) for state in STATES)).where(*inside)).one()
    people = db.scalar(select(func.count(LegRow.trajectory.distinct())).where(*inside)) or 0
    of_tracks: dict[str, int] = dict(db.execute(  # type: ignore[arg-type]
        select(Sighting.state, func.count()).where(
            Sighting.site == run.site, Sighting.camera.in_(run.cameras), Sighting.start < run.until,
            Sighting.end >= run.since)
        .group_by(Sighting.state)).all())
    count = db.scalar(select(func.count()).select_from(EpisodeRow).where(*_recorded(run))) or 0
    seconds = {state: float(micros or 0) / 1e6 for state, micros in zip(STATES, sums, strict=True)}
    return replays.totals(count, people, of_tracks, seconds)


def _cursor(pair: Pair) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(pair.key)).decode().rstrip("=")


def _after(cursor: str) -> tuple[int, str, str]:
    """Raises Problem 400."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)),
                                   type=tuple[int, str, str])
    except (binascii.Error, msgspec.MsgspecError, ValueError, UnicodeError):
        raise Problem(400, "bad cursor", f"expected `next` of this comparison, got {cursor[:80]!r}") from None


router = Router("/v1/replays", route_handlers=[options, add, listed, one, cancel, remove, adopt, episodes, picture,
                                               diff], tags=["replays"])
