"""Every message on every topic: what it holds, how it is encoded, how it is read back.

Times are whole microseconds since 1970-01-01T00:00:00Z, taken from the frame, never from the machine that handles it.
Boxes are `x0 y0 x1 y1` in pixels of the frame's picture. Ids are built from content: a frame is `camera@at`,
a face is `frame#index`, a track is the id of its first face, a person is the id of its first track.
Fields are only ever added, with a default.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

State = Literal["worn", "incorrect", "none", "unknown"]
STATES: tuple[State, ...] = ("worn", "incorrect", "none", "unknown")
Privacy = Literal["anonymous", "pseudonymous", "enrolled"]
Box = tuple[float, float, float, float]
Outline = tuple[tuple[float, float], ...]  # corners of a polygon, 0..1 of the picture's width and height
Required = Literal["worn", "nothing"]
# set: the camera's own number · nobody: seen lately, so the usual width · faces: as the smaller ones need it
# behind: narrower than that, because the stages cannot keep up · empty: no picture yet
WidthReason = Literal["", "set", "nobody", "faces", "behind"]


class Hours(msgspec.Struct, frozen=True):
    """A part of every week, in the policy's time zone."""

    days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)  # on which it begins, Monday is 1
    begin: str = "00:00"  # HH:MM by the clock on the wall
    end: str = "24:00"  # HH:MM; not after `begin`: on the day after


class Rule(msgspec.Struct, frozen=True):
    """What is required somewhere at some hours. Of a policy's rules the first that applies decides."""

    name: str = ""  # for people
    cameras: tuple[str, ...] = ()  # ids; empty: every camera of the site, and in what travels with a camera
    zone: str = ""  # name of a zone of those cameras; empty: the whole picture
    hours: tuple[Hours, ...] = ()  # when it applies; empty: always
    except_hours: tuple[Hours, ...] = ()  # when it does not, within `hours`
    required: Required = "worn"  # nothing: an exempt zone, or exempt hours
    breach: tuple[Literal["none", "incorrect"], ...] = ("none", "incorrect")  # the states that break it
    grace: float | None = None  # seconds in breach before an episode opens; None: Settings.grace
    except_roles: tuple[str, ...] = ()  # of enrolled people, to whom it does not apply once they are recognised
    roles: tuple[str, ...] = ()  # of enrolled people, to whom alone it applies; empty: to everybody


class Zone(msgspec.Struct, frozen=True):
    """A part of a camera's picture. A face is in the first zone in which the middle of its box lies."""

    name: str  # the same in several cameras: one zone, seen by all of them
    outline: Outline  # at least three corners


class Policy(msgspec.Struct, frozen=True):
    """What is required in one camera's picture, as it was when a frame was taken."""

    version: str = ""  # id of the site's policy it is made from; empty: none, only zones
    time_zone: str = "UTC"  # IANA name, of the site
    otherwise: Required = "worn"  # what is required where and when no rule applies
    rules: tuple[Rule, ...] = ()  # that concern the camera, in their order
    zones: tuple[Zone, ...] = ()  # of the camera


class Ledger(msgspec.Struct, frozen=True):
    """What dedup has done with a camera's frames so far. Running totals, so the newest one is the truth."""

    seen: int = 0  # frames that arrived
    kept: int = 0  # passed on because they add something (the audit sample is not among them)
    still: int = 0  # dropped: the picture has not changed
    same_faces: int = 0  # dropped: something changed, but not where the faces are, and the faces are the same
    audited: int = 0  # would have been dropped, passed on all the same to measure what dropping misses
    missed: int = 0  # of the audited: those in which the mask stage found a face it did not know of


class Frame(msgspec.Struct, frozen=True):
    """One sampled picture of a camera, or (`ended`) the mark that its stream stopped after the last picture."""

    camera: str  # camera id, [a-z0-9-]; for an inspection, the inspection's id
    at: int  # capture time, µs UTC; strictly increasing within a camera
    site: str = "site"  # site id
    source: Literal["camera", "inspection", "file"] = "camera"  # what took it; file = analysed by itself
    privacy: Privacy = "pseudonymous"  # what the site allows: anonymous = no embedding is made, no face picture kept
    place: tuple[float, float] | None = None  # where the camera stands on the site plan, metres east and north
    width: int = 0  # of the picture, pixels
    height: int = 0  # of the picture, pixels
    source_width: int = 0  # of the stream before scaling, pixels
    source_height: int = 0  # of the stream before scaling, pixels
    jpeg: bytes = b""  # the picture, JPEG; empty when `ended`
    digest: bytes = b""  # luma thumbnail, 64 wide × 36 high, row by row, one byte a pixel
    known: tuple[Box, ...] = ()  # faces last published for this camera when the frame was taken, 0..1 of the picture
    known_at: int = 0  # time of the frame those faces were seen in, µs UTC; 0 = none yet
    dropped: int = 0  # sampled pictures thrown away at capture since the last frame that was published
    ended: bool = False  # no more pictures until the camera comes back: tracks end here
    audit: bool = False  # dedup would have dropped it; analysed as a sample of what dropping misses
    probe: bool = False  # wider than the camera's pictures are now, to see whether smaller faces are there; always kept
    ledger: Ledger | None = None  # dedup's totals up to and with this frame; set on frames.unique
    late: bool = False  # it came after younger ones of its camera: looked at by itself, in no track and on no route
    policy: Policy | None = None  # what is required there and then; None: a mask everywhere and always
    blur_others: bool = False  # in pictures that are kept of a face, the other faces are made unrecognisable

    @property
    def id(self) -> str:
        return f"{self.camera}@{self.at}"


class Face(msgspec.Struct, frozen=True):
    """One face in one frame."""

    id: str  # frame id + "#" + index
    box: Box  # pixels of the frame's picture
    score: float  # detector's confidence, 0..1
    landmarks: tuple[float, ...]  # right eye, left eye, nose, right and left mouth corner: x y each; the person's right
    look: State  # what this one look says
    look_score: float  # calibrated probability of `look`, 0..1
    track: str = ""  # id of the track's first face; empty: not in a track
    state: State = "unknown"  # what the looks of the track so far say together
    state_score: float = 0.0  # probability of `state`, 0..1
    quality: float = 0.0  # how well the face can be recognised: size, sharpness, pose; 0..1
    chip: bytes = b""  # JPEG of the face with its surroundings; only on a track's best looks, never when anonymous
    chip_box: Box | None = None  # what the chip shows, pixels of the frame's picture
    embedding: tuple[float, ...] = ()  # L2-normalised; only on faces.embedded, only where there is a chip
    zone: str = ""  # name of the zone of the camera in which it is; empty: in none


class Faces(msgspec.Struct, frozen=True):
    """All faces of one analysed frame; an empty list says that the frame was looked at and nobody was there."""

    camera: str  # camera id
    at: int  # capture time of the frame, µs UTC
    frame: str  # frame id, camera@at
    site: str  # site id
    source: Literal["camera", "inspection", "file"] = "camera"  # what took the frame, as in Frame
    privacy: Privacy = "pseudonymous"  # what the site allows, as in Frame
    place: tuple[float, float] | None = None  # where the camera stands on the site plan, metres east and north
    width: int = 0  # of the frame's picture, pixels
    height: int = 0  # of the frame's picture, pixels
    faces: tuple[Face, ...] = ()  # in the order of the index in their ids
    gone: tuple[str, ...] = ()  # tracks that ended before this frame
    ended: bool = False  # the camera's stream stopped here: every track has ended
    audit: bool = False  # this frame is one of dedup's audit sample
    ledger: Ledger | None = None  # dedup's totals for the camera, with `missed` filled in
    models: dict[str, str] = {}  # what looked: model name -> first 12 hex digits of its SHA-256
    policy: Policy | None = None  # what is required there and then, as in Frame


class Leg(msgspec.Struct, frozen=True):
    """A stretch of a route that was seen: one track in one camera."""

    camera: str  # camera id
    track: str  # track id
    start: int  # first look, µs UTC
    end: int  # last look so far, µs UTC
    place: tuple[float, float] | None = None  # of the camera, metres east and north on the site plan
    state: State = "unknown"  # the track's state at `end`
    seconds: dict[str, float] = {}  # mask state -> seconds spent in it
    face: str = ""  # id of the best face of the track


class Gap(msgspec.Struct, frozen=True):
    """A stretch of a route that nobody saw, inferred between two legs."""

    start: int  # last look before, µs UTC
    end: int  # first look after, µs UTC
    probability: float  # that both legs are the same person, 0..1
    metres: float | None = None  # straight line between the two cameras; None where a place is not known


class Trajectory(msgspec.Struct, frozen=True):
    """A person's route over the cameras of a site so far. The newest message of an id replaces the earlier ones."""

    id: str  # id of the person's first track
    site: str  # site id
    at: int  # time of the newest look in it, µs UTC
    start: int  # first look, µs UTC
    legs: tuple[Leg, ...] = ()  # in order of time
    gaps: tuple[Gap, ...] = ()  # gaps[i] lies between legs[i] and legs[i + 1]
    closed: bool = False  # not expected to be seen again; a later look starts another trajectory


class Evidence(msgspec.Struct, frozen=True):
    """A picture that shows a breach."""

    face: str  # face id, which names the frame too
    camera: str  # camera id
    at: int  # µs UTC
    box: Box  # pixels of the frame's picture
    look: State  # what that look said
    look_score: float  # calibrated probability of `look`, 0..1
    picture: bytes = b""  # JPEG; empty when the site is anonymous


class Episode(msgspec.Struct, frozen=True):
    """One breach by one person. The newest message of an id replaces the earlier ones."""

    id: str  # person's id + "!" + start
    site: str  # site id
    person: str  # id of the trajectory
    state: Literal["none", "incorrect"]  # the worst seen in it
    status: Literal["open", "closed"]  # open: may still go on
    start: int  # first look in breach, µs UTC
    end: int  # last look in breach so far, µs UTC
    at: int  # time of the look that this message tells of, µs UTC
    cameras: tuple[str, ...] = ()  # where, in order of time
    place: tuple[float, float] | None = None  # where last, metres east and north on the site plan
    score: float = 0.0  # mean state probability over the looks in breach, 0..1
    looks: int = 0  # looks in breach
    reason: Literal["", "mask on", "out of sight", "stream ended", "not required"] = ""  # why it was closed
    evidence: tuple[Evidence, ...] = ()  # best looks first, at most three
    policy: str = ""  # version of the policy by which it was opened; empty: none, a mask is required everywhere
    rule: str = ""  # name of the rule by which it was opened
    zone: str = ""  # where it was opened: name of the zone; empty: in none
    except_roles: tuple[str, ...] = ()  # roles to whom the rule does not apply: the API looks, it knows names
    roles: tuple[str, ...] = ()  # to whom alone the rule applies, so of others it is no breach; empty: to everybody


class Source(msgspec.Struct, frozen=True):
    """One address at which a camera can be had."""

    url: str  # rtsp:// rtmp:// http(s):// (HLS, MJPEG, file), a path to a file or folder of images, /dev/videoN
    kind: Literal["main", "sub"] = "main"  # a sub-stream is smaller: preferred when it is wide enough
    width: int = 0  # pixels; 0 = not known


class Camera(msgspec.Struct, frozen=True):
    """What a camera should be doing. The newest record of an id is the wish; a tombstone removes it."""

    camera: str  # camera id, [a-z0-9-]
    sources: tuple[Source, ...]  # at least one; the best fitting is chosen
    name: str = ""  # for people
    site: str = "site"  # site id
    running: bool = True  # False: added, but stopped
    fps: float = 5.0  # pictures analysed a second
    width: int = 0  # the picture is scaled down to this width for analysis, pixels; 0: as its faces need it
    privacy: Privacy = "pseudonymous"  # what the site allows, as in Frame
    place: tuple[float, float] | None = None  # metres east and north on the site plan
    direction: float | None = None  # degrees clockwise from north
    view: float | None = None  # horizontal field of view, degrees
    loop: bool = False  # a file or folder starts again at its end, like a camera
    rendered: bool = False  # the pictures are computed, not filmed (demo)
    hidden: tuple[Outline, ...] = ()  # privacy areas: blackened before a picture goes anywhere
    blur_others: bool = False  # what the site wants, as in Frame
    policy: Policy | None = None  # what is required in its picture, with its zones; as in Frame
    prefer: int | None = None  # index of the source to try first; None: the best fitting
    changed: int = 0  # when the API wrote it, µs UTC, growing with every change; 0: written by the command


class CameraStatus(msgspec.Struct, frozen=True):
    """What a camera is doing, as the worker that holds it sees it."""

    camera: str  # camera id
    at: int  # µs UTC
    state: Literal["up", "down", "stopped", "connecting", "ended"]  # ended: a file or folder came to its end
    since: int  # in this state since, µs UTC
    worker: str = ""  # host:pid that holds the camera
    url: str = ""  # the source in use, passwords removed
    fps_in: float = 0.0  # pictures a second that the stream delivers
    fps_analysed: float = 0.0  # pictures a second published to `frames`
    published: int = 0  # frames published since this worker took the camera
    dropped: int = 0  # sampled pictures dropped since then because a stage could not keep up
    reconnects: int = 0  # since this worker took the camera
    error: str = ""  # the last one; empty when up
    width: int = 0  # of the stream, pixels
    height: int = 0  # of the stream, pixels
    analysed_width: int = 0  # of the analysed pictures, pixels; 0 = none yet
    analysed_why: WidthReason = ""  # set; nobody seen; as its faces need; less, as stages are behind; empty: none yet
    analysed_face: float = 0.0  # longer side that all but the smallest tenth of its faces have at that width, pixels
    begun: int = 0  # of a recording played as a camera: when its present round began, µs UTC; 0: not one, or not known


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that a stage could not take."""

    id: str  # topic:partition:offset:stage
    topic: str  # it was read from, without prefix
    partition: int  # of that topic
    offset: int  # in that partition
    stage: str  # that refused it: dedup, mask, embed, trajectory, materialiser
    reason: str  # what was expected and what came
    at: int  # timestamp of the refused record, µs UTC
    key: str = ""  # of the refused record, as text; bytes that are not UTF-8 are replaced
    payload: bytes = b""  # the refused record, byte for byte
    redriven: int = 0  # when it was sent to its topic again, µs UTC; 0 = not yet. The newest message of an id counts


class ChatMessage(msgspec.Struct, frozen=True):
    """What somebody said in a room of the chat; of one id, the record that says it was taken back counts."""

    id: str  # made by the client (a UUID): sent twice it is said once
    room: str  # site:…, camera:…, episode:… or inspection:… and the id of that
    seq: int  # counts all messages; greater is later within a room
    at: int  # when it was accepted, µs UTC
    user: str  # user id
    name: str  # of the user then
    site: str  # site id of what the room is about
    camera: str = ""  # camera id of what the room is about; empty: the whole site
    text: str = ""  # as typed
    pictures: tuple[str, ...] = ()  # names in the picture store
    mentions: tuple[str, ...] = ()  # ids of the users it calls
    removed: int = 0  # when it was taken back, µs UTC; then text, pictures and mentions are empty. 0: it stands
    remover: str = ""  # id of the user who took it back


LATEST = 1 << 53  # µs: up to here, in the year 2255, every client's number is exact, and calendars know the day
TIMES = ("at", "start", "end", "since", "changed", "known_at", "begun", "redriven", "removed")  # of a message, µs UTC
PARTS = ("legs", "gaps", "evidence")  # of a message, that have times too

MESSAGES: dict[str, type[msgspec.Struct]] = {
    kind.__name__: kind for kind in (Frame, Faces, Trajectory, Episode, Camera, CameraStatus, DeadLetter, ChatMessage)
}

M = TypeVar("M", bound=msgspec.Struct)
_msgpack = msgspec.msgpack.Encoder()
_json = msgspec.json.Encoder(order="deterministic")
_decoders: dict[tuple[type, str], Any] = {}


class BadMessage(ValueError):
    """A payload that is not the message its topic promises."""


def encode(message: msgspec.Struct, form: str = "json") -> bytes:
    """`form`: json, or msgpack for frames. JSON carries bytes as base64."""
    return (_msgpack if form == "msgpack" else _json).encode(message)


def decode(payload: bytes, kind: type[M], form: str = "json") -> M:
    """Raises BadMessage, saying what was expected and what came."""
    try:
        decoder = _decoders[kind, form]
    except KeyError:
        make = msgspec.msgpack.Decoder if form == "msgpack" else msgspec.json.Decoder
        decoder = _decoders[kind, form] = make(kind)
    try:
        message: M = decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(f"expected a {kind.__name__} as {form}, got {len(payload)} bytes: {error}") from None
    if MESSAGES.get(kind.__name__) is kind and (wrong := _mistimed(message)):
        raise BadMessage(f"expected a {kind.__name__} with times of 0 to {LATEST} µs UTC, got {wrong}")
    return message


def _mistimed(message: msgspec.Struct, place: str = "") -> str:
    """A time in a message that is none; empty: all are."""
    for name in TIMES:
        value = getattr(message, name, 0)
        if not 0 <= value <= LATEST:
            return f"{place}{name} {value}"
    for name in PARTS:
        for number, part in enumerate(getattr(message, name, ())):
            if wrong := _mistimed(part, f"{place}{name}[{number}]."):
                return wrong
    return ""


def ahead(message: msgspec.Struct, recorded: int, most: float) -> str:
    """What is wrong with a message that says more than `most` seconds after its record's own time, µs, what it saw;
    empty: nothing. Its camera would count as seen until then, and nothing of what comes before it."""
    by = (getattr(message, "at", recorded) - recorded) / 1e6
    if recorded <= 0 or by <= most:
        return ""
    return (f"expected `at` to be at most {most:g} s after the record's own time, got {by:.0f} s: a clock is wrong, or "
            "who wrote it is (MASKWATCH_AHEAD)")
