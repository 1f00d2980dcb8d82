"""What a camera may be: a site file or typed values -> checked Camera values, every fault named at once."""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, get_args
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import yaml

from pipeline import policy
from pipeline.capture import public
from pipeline.messages import Camera, Privacy, Source

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
NETWORK = ("rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "http", "https")
FPS = (0.05, 60.0)  # analysed pictures a second
WIDTH = (64, 3840)  # pixels
MOST_HIDDEN = 32  # privacy areas of a camera
AUTO = "auto"  # people's word for width 0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAME = re.compile(r"\$\{(\w+)\}")
_FIELDS = frozenset(Camera.__struct_fields__)
# what may stand at the top of a site file for all of its cameras
_EACH = _FIELDS - {"camera", "sources", "name", "hidden", "prefer"}


class BadCamera(ValueError):
    """What was expected of a camera and what came, one fault a line."""


def faults(camera: Camera) -> list[str]:
    """Empty when the camera may be had. Passwords do not appear."""
    label, found = camera.camera, []

    def wants(field: str, right: bool, expected: str, came: Any) -> None:
        if not right:
            found.append(f"{label}: {field}: expected {expected}, got {came!r}")

    wants("camera", bool(ID.fullmatch(label)), "an id of a-z, 0-9 and -, at most 63 long", label)
    wants("name", not _CONTROL.search(camera.name), "one line without control characters", camera.name)
    wants("site", bool(SITE.fullmatch(camera.site)), "an id of letters, digits and . _ -", camera.site)
    wants("sources", bool(camera.sources), "at least one address", [])
    for i, source in enumerate(camera.sources):
        wrong = _address(source.url)
        wants(f"sources[{i}].url", not wrong, wrong, public("%20".join(source.url.split())))
        wants(f"sources[{i}].width", 0 <= source.width <= 16384, "pixels, 0..16384", source.width)
    wants("fps", FPS[0] <= camera.fps <= FPS[1], f"pictures a second, {FPS[0]:g}..{FPS[1]:g}", camera.fps)
    expected = f"pixels, {WIDTH[0]}..{WIDTH[1]}, or auto"
    wants("width", not camera.width or WIDTH[0] <= camera.width <= WIDTH[1], expected, camera.width)
    place = camera.place or (0.0, 0.0)
    wants("place", all(map(math.isfinite, place)), "metres east and north", camera.place)
    wants("direction", camera.direction is None or 0 <= camera.direction < 360, "degrees, 0..360", camera.direction)
    wants("view", camera.view is None or 0 < camera.view <= 360, "degrees, over 0..360", camera.view)
    wants("prefer", camera.prefer is None or 0 <= camera.prefer < len(camera.sources), "the index of a source, or none",
          camera.prefer)
    wants("hidden", len(camera.hidden) <= MOST_HIDDEN, f"at most {MOST_HIDDEN} areas", len(camera.hidden))
    for i, area in enumerate(camera.hidden):
        found.extend(f"{label}: hidden[{i}]: {fault}" for fault in policy.outline_faults(area))
    if camera.policy is not None:
        found.extend(f"{label}: policy.zones{fault}" for fault in policy.zone_faults(camera.policy.zones))
        written = policy.Written(time_zone=camera.policy.time_zone, rules=camera.policy.rules)
        found.extend(f"{label}: policy.{fault}" for fault in policy.faults(written))
    return found


def _address(url: str) -> str:
    """What was expected instead of this address; empty when it may be tried."""
    if not url or url != url.strip() or any(ord(c) < 32 for c in url):
        return "an address without spaces around it"
    if "://" not in url or url.startswith("file://"):
        return ""
    if len(url.split()) > 1:  # what stands in front of one in a password would be shown
        return "an address without spaces: %20 stands for one"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "an address that can be read, as rtsp://user:password@host:554/path"
    if parts.scheme.lower() not in NETWORK:
        return "rtsp://, rtmp://, http(s)://, a path or /dev/videoN"
    return "" if parts.hostname else "an address with a host in it"


def check(cameras: Sequence[Camera]) -> None:
    """Raises BadCamera with every fault of every camera."""
    found = [fault for camera in cameras for fault in faults(camera)]
    names = [camera.camera for camera in cameras]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    found += [f"{name}: expected once, got {names.count(name)} times" for name in twice]
    if found:
        raise BadCamera("\n".join(found))


def load(text: str, environment: Mapping[str, str], file: str = "cameras.yaml") -> tuple[Camera, ...]:
    """The cameras of a site file. ${NAME} is replaced from `environment`, so that the file holds no password."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadCamera(f"{file}: expected YAML, got {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not isinstance(content.get("cameras"), list):
        raise BadCamera(f"{file}: expected a list under `cameras:`, got {type(content).__name__}")
    found: list[str] = []
    every = {name: value for name, value in content.items() if name != "cameras"}
    found += [f"{file}: {name}: expected one of {', '.join(sorted(_EACH))}" for name in every if name not in _EACH]
    cameras: list[Camera] = []
    for i, entry in enumerate(content["cameras"]):
        label = f"{file}: cameras[{i}]"
        if not isinstance(entry, dict):
            found.append(f"{label}: expected fields, got {entry!r}")
            continue
        unknown = [name for name in entry if name not in _FIELDS]
        found += [f"{label}: {name}: expected one of {', '.join(sorted(_FIELDS))}" for name in unknown]
        values, missing = _fill({**every, **entry}, environment)
        found += [f"{label}: expected {name} in the environment, got nothing" for name in missing]
        if values.get("width") == AUTO:
            values["width"] = 0
        if not missing:
            try:
                cameras.append(msgspec.convert(values, Camera))
            except msgspec.ValidationError as error:
                found.append(f"{label}: {public(str(error))}")
    try:
        check(cameras)
    except BadCamera as error:
        found += [f"{file}: {line}" for line in str(error).splitlines()]
    if found:
        raise BadCamera("\n".join(found))
    return tuple(cameras)


def _fill(value: Any, environment: Mapping[str, str]) -> tuple[Any, list[str]]:
    if isinstance(value, str):
        missing = [name for name in _NAME.findall(value) if name not in environment]
        return _NAME.sub(lambda m: environment.get(m[1], ""), value), missing
    if isinstance(value, dict):
        pairs = [(name, *_fill(each, environment)) for name, each in value.items()]
        return {name: each for name, each, _ in pairs}, [m for _, _, missing in pairs for m in missing]
    if isinstance(value, list):
        filled = [_fill(each, environment) for each in value]
        return [each for each, _ in filled], [m for _, missing in filled for m in missing]
    return value, []


def shown(camera: Camera) -> dict[str, Any]:
    """A camera as it may be shown: without logins."""
    hidden = msgspec.structs.replace(
        camera, sources=tuple(msgspec.structs.replace(source, url=public(source.url)) for source in camera.sources)
    )
    told: dict[str, Any] = msgspec.to_builtins(hidden)
    return told


class _Place(NamedTuple):
    """What of an address says whose picture it is."""

    scheme: str
    host: str
    port: int | None  # None: the usual one
    path: str
    query: dict[str, str]


_PLAIN = {"rtsps": "rtsp", "rtmps": "rtmp", "rtmpt": "rtmp", "https": "http"}  # TLS shows nothing else
_USUAL = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "rtmpt": 80, "http": 80, "https": 443}


def _place(url: str) -> _Place | None:
    """None: it cannot be read."""
    if "://" not in url or url.startswith("file://"):
        return _Place("file", "", None, posixpath.normpath(url.removeprefix("file://")), {})
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    return _Place(
        _PLAIN.get(scheme, scheme), _host(parts.hostname or ""), None if port == _USUAL.get(scheme) else port,
        public(unquote(parts.path)).rstrip("/"),
        {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)
         if public(f"?{name}=x") == f"?{name}=x"})


def _host(name: str) -> str:
    """A host as it is always written: numbers may be written in many ways."""
    with suppress(OSError, ValueError):
        return socket.inet_ntoa(socket.inet_aton(name))
    with suppress(ValueError):
        address = ipaddress.IPv6Address(name.split("%")[0])
        return str(address.ipv4_mapped or address)
    return name.lower().rstrip(".")


def alike(one: str, other: str) -> bool:
    """Whether two addresses show the same picture, as far as they tell: logins, TLS, the usual port, a slash at the end
    and what only one of them asks for make no difference. A name and a number of one host are two hosts."""
    a, b = _place(one), _place(other)
    if a is None or b is None:
        return one == other
    return a[:4] == b[:4] and all(b.query.get(name, value) == value for name, value in a.query.items())


def sources(main: Sequence[str], sub: Sequence[str], sub_width: int = 0) -> tuple[Source, ...]:
    return (*(Source(url) for url in main), *(Source(url, "sub", sub_width) for url in sub))


def width(text: str) -> int:
    """What people write: pixels, or auto."""
    if text == AUTO:
        return 0
    if not text.isdecimal() or not WIDTH[0] <= int(text) <= WIDTH[1]:
        raise ValueError(f"expected pixels, {WIDTH[0]}..{WIDTH[1]}, or {AUTO}, got {text!r}")
    return int(text)


PRIVACIES: tuple[str, ...] = get_args(Privacy)
