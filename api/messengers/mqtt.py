"""MQTT 3.1.1: one message to one topic, acknowledged by the broker. Said by hand: a client library would look the
name up itself, after we have checked where it leads."""

from __future__ import annotations

import base64
import contextlib
import socket
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.messengers.note import Host, Later, Line, Note, Port, Refused
from api.messengers.reach import WHOLE, Reach, deadline, keep, wrap
from api.messengers.secret import SecretName, Use, secret

PICTURES = True
CONNACK, PUBACK = 0x20, 0x40
WHY = {1: "protocol version", 2: "client id", 3: "server away", 4: "user or password", 5: "not allowed"}


class Mqtt(msgspec.Struct, tag_field="kind", tag="mqtt"):
    """A broker and a topic."""

    host: Host
    topic: Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f+#]+$(?!\n)", min_length=1, max_length=200)]
    port: Port = 8883
    security: Literal["tls", "none"] = "tls"
    user: Line = ""
    password: SecretName | None = None
    retain: bool = False  # the broker keeps the last one for who comes later


def use(options: Mqtt) -> Use:
    return Use((options.password,) if options.password else (), options.host, options.security == "none")


def send(options: Mqtt, note: Note, reach: Reach) -> str:
    password = "" if options.password is None else secret(options.password, options.host)
    content = note.json()
    if note.picture:
        content["picture"] = base64.b64encode(note.picture).decode()
    made = reach.connect(options.host, options.port)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        stack.enter_context(deadline(made))
        if options.security == "tls":
            made = wrap(made, options.host)
            stack.callback(made.close)
        if password:
            keep(made, options.host)
        made.settimeout(WHOLE)
        try:
            made.sendall(connect(note.id[:23], options.user, password))
            code = _read(made, CONNACK)[1]
            if code:
                raise (Later if code == 3 else Refused)(f"the broker refused: {WHY.get(code, code)}")
            made.sendall(publish(options.topic, msgspec.json.encode(content), options.retain))
            _read(made, PUBACK)
            made.sendall(b"\xe0\x00")  # goodbye
        except (OSError, IndexError) as error:
            raise Later(f"{options.host}: {type(error).__name__}: {error}") from None
    return "acknowledged"


def connect(client: str, user: str, password: str) -> bytes:
    """A clean session, kept alive for a minute."""
    flags = 0x02 | (0x80 if user else 0) | (0x40 if user and password else 0)
    body = _text("MQTT") + bytes([4, flags]) + (60).to_bytes(2, "big") + _text(client)
    if user:
        body += _text(user) + (_text(password) if password else b"")
    return b"\x10" + _length(len(body)) + body


def publish(topic: str, content: bytes, retain: bool = False) -> bytes:
    """At least once, as packet 1."""
    body = _text(topic) + b"\x00\x01" + content
    return bytes([0x32 | retain]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    coded = text.encode()
    return len(coded).to_bytes(2, "big") + coded


def _length(size: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while True:
        size, low = divmod(size, 128)
        out.append(low | (0x80 if size else 0))
        if not size:
            return bytes(out)


def _read(made: socket.socket, kind: int) -> bytes:
    """The body of the next packet, which has to be of a kind."""
    first, size, shift = _exactly(made, 1)[0], 0, 0
    while True:
        byte = _exactly(made, 1)[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    if first & 0xF0 != kind or size > 1024:
        raise Later(f"expected packet {kind:#x} of the broker, got {first:#x} of {size} bytes")
    return _exactly(made, size)


def _exactly(made: socket.socket, count: int) -> bytes:
    out = b""
    while len(out) < count:
        part = made.recv(count - len(out))
        if not part:
            raise ConnectionError("the broker hung up")
        out += part
    return out
