"""Runs what waits in `replays`: a stretch of the log through the flow in memory, its results into the tables.

A worker claims a run (`for update skip locked`) and gives a sign of life every second. Of one that has gone silent the
run is taken up from the start by whoever looks next; only the newest attempt may write, all results in one transaction,
and the flow is the same function of the same frames: so a run that was cut off ends as if it had not been.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import structlog
from kafka.errors import KafkaError
from sqlalchemy import and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from api import live, pictures
from api.differences import iou
from api.ranges import wilson
from api.replay_queue import LEASE, TURN
from api.tables import erased, sites
from api.tables.cameras import CameraRow
from api.tables.replays import FOLDER, Replay, ReplayEpisode
from api.tables.sites import Site
from models import manifest
from pipeline import policy
from pipeline.messages import Episode, Evidence, Faces, Frame, Outline, Privacy, Trajectory
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.flow import Models, Record

log = structlog.get_logger()
TELL = 1.0  # seconds between two words of how far a run is
DEATHS = 3  # workers that may die of a run
MOST_EPISODES = 10_000  # of a run, and of what it is compared with
TRIALS = "trials"  # folder below data/models with weights that only replays use: <model>.<label>.tflite
LABEL = re.compile(r"[A-Za-z0-9_-]{1,40}")
LOOKING = 30.0  # seconds for what the stream saw when an episode was shown: nobody waits for an answer here
BESIDE = 0.3  # overlap by which a box is that of an erased face, also in the frame before or after
BLACK = 40  # luma up to which a pixel of a privacy area counts as blackened: JPEG smears its edge
# Settings that the flow takes, and between what they may be chosen for a run.
OVERRIDES: dict[str, tuple[float, float]] = {
    "block_change": (0, 255), "face_change": (0, 255), "heartbeat_frame": (0, 60), "audit": (0, 1),
    "face_score": (0.1, 1), "face_pixels": (1, 1000), "track_gap": (0.1, 60), "walk": (0.1, 50), "away": (1, 86_400),
    "grace": (0, 3600), "quiet": (0.1, 3600),
}  # fmt: skip


class States(msgspec.Struct):
    """A number for each mask state."""

    worn: float = 0
    incorrect: float = 0
    none: float = 0
    unknown: float = 0


class Totals(msgspec.Struct):
    """What a run, or the stream as it was, comes to."""

    episodes: int
    people: int  # routes
    tracks: States  # by their last state
    seconds: States  # person-seconds
    rate: float | None  # tracks that wore it, of those that were decided
    low: float | None  # 95 % interval of that
    high: float | None
    rate_time: float | None  # the same of person-seconds
    looks: States | None = None  # faces, by what the single look said; null: not kept of what was recorded live
    frames: int | None = None  # that were looked at; null: the same
    refused: int = 0  # frames that could not be taken
    reasons: list[str] = []  # of the first of those


def totals(episodes: int, people: int, tracks: Mapping[str, int], seconds: Mapping[str, float], **more: Any) -> Totals:
    """With the rates that follow."""
    decided, judged = (sum(those.get(state, 0) for state in ("worn", "incorrect", "none")) for those in
                       (tracks, seconds))
    low, high = wilson(tracks.get("worn", 0), int(decided)) or (None, None)
    return Totals(
        episodes, people, States(**tracks), States(**{state: round(s, 1) for state, s in seconds.items()}),
        _round(tracks.get("worn", 0) / decided) if decided else None, _round(low), _round(high),
        _round(seconds.get("worn", 0) / judged) if judged else None, **more)


def _round(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


# -- what may be chosen ----------------------------------------------------------------------------------------------


def choices(settings: Settings) -> dict[str, dict[str, Path]]:
    """Model -> its weights that are here: the forms of the manifest, and what lies in data/models/trials. The first is
    the one in force."""
    folder, found = settings.data / "models", dict[str, dict[str, Path]]()
    for name, model in manifest.models().items():
        if model.source is None:
            those = {"own": manifest.HERE / model.weights}
        else:
            forms = sorted(manifest.FORMS, key=lambda form: form != model.use)
            those = {form: path for form in forms if (path := manifest.converted(folder, name, form)).is_file()}
        for path in sorted((folder / TRIALS).glob(f"{name}.*.tflite")):
            label = path.name.removeprefix(f"{name}.").removesuffix(".tflite")
            if LABEL.fullmatch(label):
                those.setdefault(label, path)
        found[name] = those
    return found


def weights(settings: Settings, wanted: Mapping[str, str]) -> dict[str, Path]:
    """Raises manifest.Broken for what is not here."""
    there = choices(settings)
    for name, label in wanted.items():
        if label not in there.get(name, {}):
            raise manifest.Broken(f"{name}: expected one of {', '.join(there.get(name, {})) or 'none'}, got {label!r}")
    return {name: there[name][label] for name, label in wanted.items()}


def _loaded(settings: Settings, instead: Mapping[str, Path]) -> Models:
    from models import registry

    registry.forget()  # of the run before
    return registry.load(settings, instead)


# -- what a run says -------------------------------------------------------------------------------------------------


class TooMany(ValueError):
    """More came of a run than is kept."""


@dataclass
class Gathered:
    """Adds up the records of a run."""

    keep: Callable[[str, bytes], str]  # face id, JPEG -> name of the picture
    episodes: dict[str, Episode] = field(default_factory=dict)
    routes: dict[str, Trajectory] = field(default_factory=dict)
    tracks: dict[str, str] = field(default_factory=dict)  # -> last state
    looks: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)  # face -> picture
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # frame -> its width and height
    models: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)  # the first
    letters: int = 0
    frames: int = 0

    def add(self, record: Record) -> None:
        message = record.message
        match record.topic, message:
            case "faces", Faces():
                self.frames += not message.ended
                self.models |= message.models
                if any(face.chip for face in message.faces):
                    self.sizes[message.frame] = message.width, message.height
                for face in message.faces:
                    self.looks[face.look] += 1
                    if face.track:
                        self.tracks[face.track] = face.state
            case "faces.embedded", Faces():
                self.models |= message.models
            case "trajectories", Trajectory():
                self.routes[message.id] = message
            case "episodes", Episode():
                self.episodes[message.id] = self.kept(message) if message.status == "closed" else message
                if len(self.episodes) > MOST_EPISODES:
                    raise TooMany(f"expected at most {MOST_EPISODES} episodes of a run, got more: take a shorter "
                                  "stretch or fewer cameras")
            case "dead.letters", _:
                self.refuse(f"{message.id}: {message.reason}")  # type: ignore[attr-defined]

    def refuse(self, reason: str) -> None:
        self.letters += 1
        if len(self.refused) < 5:
            self.refused.append(reason.replace("\0", "")[:300])

    def kept(self, episode: Episode) -> Episode:
        """Its pictures in the store, and no longer in memory."""
        def put(one: Evidence) -> Evidence:
            if one.picture:
                self.names[one.face] = self.keep(one.face, one.picture)
            return msgspec.structs.replace(one, picture=b"")

        return msgspec.structs.replace(episode, evidence=tuple(put(one) for one in episode.evidence))

    def rows(self, run: str) -> list[dict[str, Any]]:
        return [{
            "run": run, "id": e.id, "person": e.person,
            "tracks": sorted({leg.track for leg in self.routes[e.person].legs} if e.person in self.routes else ()),
            "state": e.state, "status": e.status, "start": e.start, "end": e.end, "cameras": list(e.cameras),
            "score": e.score, "looks": e.looks, "reason": e.reason, "zone": e.zone, "policy": e.policy, "rule": e.rule,
            "roles": list(e.roles),
            "evidence": [{"face": one.face, "camera": one.camera, "at": one.at, "box": list(one.box), "look": one.look,
                          "look_score": one.look_score, "picture": self.names.get(one.face, "")}
                         for one in e.evidence],
        } for e in map(self.kept, self.episodes.values())]

    def totals(self, episodes: int) -> Totals:
        seconds: Counter[str] = Counter()
        for route in self.routes.values():
            for leg in route.legs:
                seconds.update(leg.seconds)
        return totals(episodes, len(self.routes), Counter(self.tracks.values()), seconds, looks=States(**self.looks),
                      frames=self.frames, refused=self.letters, reasons=self.refused)


# -- privacy as it is now --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Now:
    """What holds of a camera now: a frame of the log may be from before somebody was stricter."""

    privacy: Privacy
    blur_others: bool
    hidden: tuple[Outline, ...]

    def over(self, frame: Frame) -> Frame:
        """The frame as it may be looked at now."""
        frame = msgspec.structs.replace(
            frame, privacy=sites.stricter(frame.privacy, self.privacy),
            blur_others=frame.blur_others or self.blur_others)
        return blackened(frame, self.hidden) if self.hidden and frame.jpeg else frame


def blackened(frame: Frame, hidden: tuple[Outline, ...]) -> Frame:
    """Without what lies in privacy areas that were drawn after it was taken; untouched when they are black already."""
    import cv2
    import numpy as np

    from pipeline import pictures as jpegs
    from pipeline.capture import blacken

    try:
        picture = jpegs.decode(frame.jpeg)
    except jpegs.BadPicture:
        return frame  # the flow says why it cannot be taken
    dark = blacken(picture, hidden)
    if int(np.abs(cv2.subtract(picture, dark)).max()) <= BLACK:
        return frame
    return msgspec.structs.replace(frame, jpeg=jpegs.encode(dark, 95))


def as_now(session: Session, run: Replay) -> dict[str, Now]:
    site = session.get(Site, run.site)
    found = {}
    for row in session.scalars(select(CameraRow).where(CameraRow.id.in_(run.cameras))):
        camera = row.camera
        privacy = sites.stricter(camera.privacy, cast("Privacy", site.privacy)) if site else camera.privacy
        found[row.id] = Now(privacy, bool(site and site.blur_others), camera.hidden)
    return found


def of_erased(settings: Settings, sessions: sessionmaker[Session], rows: list[dict[str, Any]],
              sizes: Mapping[str, tuple[int, int]], stopped: Callable[[], bool]) -> set[str]:
    """Episodes that show somebody who was erased: by what the stream saw in that frame or just beside it, where a run
    with other models or thresholds has given them other ids. Raises OSError when the topics cannot be read."""
    from api.footage import Away, Log

    with sessions() as session:
        if session.scalar(select(erased.Erased.digest).limit(1)) is None:
            return set()
    found, seen_by = set(), Log(settings)
    try:
        for row in rows:
            for one in row["evidence"]:
                if stopped() or row["id"] in found:
                    break
                looks = seen_by.looks(one["camera"], one["at"], one["at"] + 1, LOOKING)
                if not looks.all:
                    raise Away(f"expected to have read within {LOOKING:.0f} s what was seen beside an episode's "
                               "picture: it may show somebody who was erased")
                ids = {id_ for seen in looks.seen for face in seen.faces for id_ in (face.id, face.track) if id_}
                with sessions() as session:
                    gone = erased.erased(session, ids)
                wide, high = sizes.get(one["face"].rpartition("#")[0], (0, 0))
                x0, y0, x1, y1 = one["box"]
                box = x0 / max(wide, 1), y0 / max(high, 1), x1 / max(wide, 1), y1 / max(high, 1)
                if any(iou(box, seen.parts(face)) >= BESIDE for seen in looks.seen for face in seen.faces
                       if face.id in gone or face.track in gone):
                    found.add(row["id"])
    finally:
        seen_by.close()
    return found


# -- the worker ------------------------------------------------------------------------------------------------------


def tell(session: Session, run: Replay, kind: str) -> None:
    """On the live feed. Of a run over several cameras whoever has the whole site is told."""
    live.tell(session, live.Event(kind, {
        "id": run.id, "state": run.state, "done": run.done, "total": run.total, "frames": run.frames,
        "reached": run.reached, "since": run.since, "until": run.until, "eta": eta(run)},
        run.site, run.cameras[0] if len(run.cameras) == 1 else "", "compliance.view"))


def eta(run: Replay) -> float | None:
    """Seconds until a run is through, if it goes on as it has gone; None: not known."""
    if run.state != "running" or not run.done or run.started is None or run.beat is None:
        return None
    took = max(0.0, (run.beat - run.started).total_seconds())
    return round(took * max(0, run.total - run.done) / run.done, 1)


class Pulse(threading.Thread):
    """Says every second that the run is alive and how far it is; hears that it shall stop, or is no longer ours."""

    def __init__(self, sessions: sessionmaker[Session], run: Replay, how_far: Callable[[], dict[str, Any]]) -> None:
        super().__init__(name=f"replay {run.id[:8]}", daemon=True)
        self.sessions, self.id, self.attempt, self.how_far = sessions, run.id, run.attempt, how_far
        self.over, self.cancelled, self.lost = threading.Event(), False, False

    def run(self) -> None:
        heard = time.monotonic()
        while not self.over.wait(TELL):
            try:
                self.beat()
                heard = time.monotonic()
            except OperationalError as error:
                log.warning("database", error=str(error.orig).strip())
                self.lost = self.lost or time.monotonic() - heard > LEASE.total_seconds()

    def beat(self) -> None:
        with self.sessions() as session, session.begin():
            run = session.scalar(
                update(Replay).where(Replay.id == self.id, Replay.attempt == self.attempt, Replay.state == "running")
                .values(beat=func.now(), **self.how_far()).returning(Replay))
            if run is None:
                self.lost = True
                return
            self.cancelled = run.cancel
            tell(session, run, "replay.progress")


class Broken(RuntimeError):
    """Why a run was given up; the text is for whoever started it."""


class Replaying:
    """`Replaying(settings, sessions).run(stop)`: one run after the other until `stop` is set. Several share them."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session],
                 load: Callable[[Settings, Mapping[str, Path]], Models] = _loaded) -> None:
        self.settings, self.sessions, self.load = settings, sessions, load
        self.done = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if not self.turn(stop):
                    stop.wait(TURN)
            except OperationalError as error:
                log.warning("database", error=str(error.orig).strip())
                stop.wait(2)

    def turn(self, stop: threading.Event) -> bool:
        """One run, if one waits; whether there was one."""
        run = self._claim()
        if run is None:
            return False
        try:
            self._work(run, stop)
        except OperationalError:
            raise  # the run is taken up again once the database is back
        except (Broken, manifest.Broken, policy.BadPolicy, TooMany, KafkaError, OSError, LookupError) as error:
            log.warning("replay failed", run=run.id, why=str(error))
            self._end(run, "failed", str(error) or type(error).__name__)
        except Exception as error:  # of this run: the next one may be another matter
            log.exception("replay failed", run=run.id)
            self._end(run, "failed", f"{type(error).__name__}: {error}")
        return True

    def _claim(self) -> Replay | None:
        silent = and_(Replay.state == "running", or_(Replay.beat.is_(None), Replay.beat < func.now() - LEASE))
        with self.sessions() as session, session.begin():
            run = session.scalar(
                select(Replay).where(or_(Replay.state == "waiting", silent)).order_by(Replay.made, Replay.id).limit(1)
                .with_for_update(skip_locked=True))
            if run is None:
                return None
            run.deaths += run.state == "running"
            run.attempt += 1
            given_up = run.deaths >= DEATHS
            over = "cancelled" if run.cancel else "failed" if given_up else ""
            run.state, run.beat = over or "running", func.now()
            run.started, run.ended = func.now(), func.now() if over else None
            run.done = run.total = run.frames = 0
            run.reached = None
            if given_up and not run.cancel:
                run.error = f"{DEATHS} workers died while they ran it; the log of `maskwatch replays` may say why"
            session.flush()
            session.refresh(run)
            tell(session, run, "replay.changed")
        if over:
            self._tidy(run.id, set())
            return None
        return run

    def _work(self, run: Replay, stop: threading.Event) -> None:
        from agents import replay as edge
        from pipeline.flow import TURN as AT_ONCE
        from pipeline.flow import Flow

        settings = self.settings.model_copy(update=dict(run.settings))
        store, folder = pictures.store(settings), f"{FOLDER}/{run.id}"

        def keep(face: str, jpeg: bytes) -> str:
            name = pictures.name(folder, face)
            store.put(name, jpeg)
            return name

        gathered, reading, far = Gathered(keep), edge.Reading(), {"frames": 0, "reached": None}
        pulse = Pulse(self.sessions, run, lambda: {"done": reading.done, "total": reading.total, **far})

        def stopped() -> bool:
            return stop.is_set() or pulse.cancelled or pulse.lost

        pulse.start()
        try:
            begins = edge.log_begins(settings, run.cameras)
            if begins >= run.until:
                raise Broken(f"expected frames from {run.since} to {run.until}, the log now begins at {begins}")
            models = self.load(settings, weights(settings, run.models))
            with self.sessions() as session:
                now = as_now(session, run)
            judge = msgspec.convert(run.written, policy.Written) if run.written else None
            with ThreadPoolExecutor(settings.cores) as pool:
                flow, turn = Flow(settings, models, pool), list[Frame]()
                for frame in edge.frames(settings, run.since, run.until, frozenset(run.cameras), gathered.refuse,
                                         reading, stopped, run.site):
                    if stopped():
                        raise edge.Stopped
                    if judge is not None:
                        zones = frame.policy.zones if frame.policy else ()
                        frame = msgspec.structs.replace(frame, policy=policy.of_camera(judge, frame.camera, zones))
                    turn.append(now[frame.camera].over(frame) if frame.camera in now else frame)
                    if len(turn) == AT_ONCE:
                        self._flow(flow, turn, gathered)
                    far |= {"frames": far["frames"] + 1, "reached": frame.at}  # type: ignore[operator]
                self._flow(flow, turn, gathered)
            rows = gathered.rows(run.id)
            gone = of_erased(settings, self.sessions, rows, gathered.sizes, stopped)
            if stopped():
                raise edge.Stopped
            rows = [row for row in rows if row["id"] not in gone]
        except edge.Stopped:
            pulse.over.set()
            pulse.join()
            if pulse.cancelled:
                self._end(run, "cancelled", "")
            elif not pulse.lost:
                self._put_back(run)
            return
        finally:
            pulse.over.set()
            pulse.join()
        self._finish(run, gathered, rows, begins, {**far, "done": reading.total, "total": reading.total})

    def _flow(self, flow: Any, turn: list[Frame], gathered: Gathered) -> None:
        for record in flow.turn(turn):
            gathered.add(record)
        turn.clear()

    def _ours(self, session: Session, run: Replay) -> Replay | None:
        """The row, held, when nobody else has taken it up; None too when it was deleted."""
        return session.scalar(select(Replay).where(Replay.id == run.id, Replay.attempt == run.attempt,
                                                   Replay.state == "running").with_for_update())

    def _finish(self, run: Replay, gathered: Gathered, rows: list[dict[str, Any]], begins: int, far: dict[str, Any]
                ) -> None:
        """All results at once, without whoever was erased meanwhile."""
        with self.sessions() as session, session.begin():
            session.execute(select(func.pg_advisory_xact_lock_shared(erased.LOCK)))
            row = self._ours(session, run)
            if row is not None and not row.cancel:
                gone = erased.erased(session, {id_ for each in rows for id_ in ids_of(each)})
                rows = [each for each in rows if not gone.intersection(ids_of(each))]
                session.execute(delete(ReplayEpisode).where(ReplayEpisode.run == run.id))
                for begin in range(0, len(rows), 500):
                    session.execute(insert(ReplayEpisode), rows[begin:begin + 500])
                row.state, row.ended, row.beat, row.error = "done", func.now(), func.now(), ""
                row.totals = msgspec.to_builtins(gathered.totals(len(rows)))
                row.used, row.log_begins = gathered.models, begins if begins > run.since else None
                for name, value in far.items():
                    setattr(row, name, value)
                session.flush()
                session.refresh(row)
                tell(session, row, "replay.changed")
            over = row is not None and row.cancel
        if over:
            self._end(run, "cancelled", "")
        elif row is not None:
            self.done += 1
            self._tidy(run.id, {one["picture"] for each in rows for one in each["evidence"]})
        else:
            self._orphans(run)

    def _end(self, run: Replay, state: str, error: str) -> None:
        """Without results."""
        with self.sessions() as session, session.begin():
            row = self._ours(session, run)
            if row is not None:
                row.state, row.ended, row.error = state, func.now(), (row.error or error).replace("\0", "")[:2000]
                session.flush()
                session.refresh(row)
                tell(session, row, "replay.changed")
        if row is not None:
            self._tidy(run.id, set())
        else:
            self._orphans(run)

    def _put_back(self, run: Replay) -> None:
        """This worker was told to stop: the next one takes it up at once."""
        with self.sessions() as session, session.begin():
            row = self._ours(session, run)
            if row is not None:
                row.state, row.beat = "waiting", None
                tell(session, row, "replay.changed")

    def _orphans(self, run: Replay) -> None:
        """Somebody deleted the run while it ran: nothing of it stays. One that another worker has taken up is its."""
        with self.sessions() as session:
            there = session.get(Replay, run.id) is not None
        if not there:
            self._tidy(run.id, set())

    def _tidy(self, run: str, wanted: set[str]) -> None:
        store = pictures.store(self.settings)
        store.delete([name for name in list(store.names(f"{FOLDER}/{run}")) if name not in wanted])


def ids_of(row: Mapping[str, Any]) -> set[str]:
    """Every id by which somebody may have been erased."""
    return {row["id"], row["person"], *row["tracks"], *(one["face"] for one in row["evidence"])}
