"""Those who are told: a web server, a mail server and an MQTT broker that write down what came."""

from __future__ import annotations

import base64
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Request:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Web:
    """`answers`: what the next requests get, (status, body, headers) each; then 200 and `usual`."""

    port: int = 0
    usual: bytes = b'{"errcode": 0, "code": 0}'
    answers: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    got: list[Request] = field(default_factory=list)
    before: Callable[[Request], None] = lambda _: None  # called before a request is answered

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def web(port: int = 0) -> Iterator[Web]:
    told = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = Request(self.path, {k.lower(): v for k, v in self.headers.items()},
                              self.rfile.read(int(self.headers["content-length"])))
            told.got.append(request)
            told.before(request)
            status, body, headers = told.answers.pop(0) if told.answers else (200, told.usual, {})
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever asked may be killed meanwhile
    told.port = server.server_address[1]
    with serving(server):
        yield told


@dataclass
class Post:
    """`refuse`: what recipients or the whole mail get instead of 250."""

    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    refuse_recipients: str = ""
    refuse_mail: list[str] = field(default_factory=list)


@contextmanager
def post(tls: ssl.SSLContext | None = None) -> Iterator[Post]:
    told = Post()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def finish(self) -> None:
            self.wfile.close()
            self.rfile.close()
            self.connection.close()

        def handle(self) -> None:
            to: list[str] = []
            secured = False
            self.say("220 test ESMTP")
            while line := self.rfile.readline().decode().strip():
                word, _, rest = line.partition(" ")
                match word.upper():
                    case "EHLO":
                        offers = ["test", "AUTH PLAIN", *(["STARTTLS"] if tls and not secured else [])]
                        for offer in offers[:-1]:
                            self.say(f"250-{offer}")
                        self.say(f"250 {offers[-1]}")
                    case "STARTTLS":
                        self.say("220 go")
                        assert tls
                        self.connection = tls.wrap_socket(self.request, server_side=True)
                        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
                        secured = True
                    case "AUTH":
                        _, user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
                        told.logins.append((user, password))
                        self.say("235 ok" if password == "right" else "535 wrong")
                    case "RCPT":
                        to.append(rest.split("<")[1].rstrip(">"))
                        self.say(told.refuse_recipients or "250 ok")
                    case "DATA":
                        self.say("354 go on")
                        lines = []
                        while (each := self.rfile.readline()) != b".\r\n":
                            lines.append(each.removeprefix(b".") if each.startswith(b"..") else each)
                        if told.refuse_mail:
                            self.say(told.refuse_mail.pop(0))
                            continue
                        told.got.append(message_from_bytes(b"".join(lines), policy=policy.default))  # type: ignore[arg-type]
                        told.to.append(to)
                        told.secured.append(secured)
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 ok")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that does not trust us hangs up."""

    server = Server(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    with serving(server):
        yield told


@dataclass
class Mqtt:
    port: int = 0
    got: list[tuple[str, Any, bool]] = field(default_factory=list)  # topic, content, retained
    logins: list[tuple[str, str]] = field(default_factory=list)
    code: int = 0  # of the answer to a connect
    silent: bool = False  # takes messages and never acknowledges


@contextmanager
def mqtt() -> Iterator[Mqtt]:
    told = Mqtt()

    class Handler(socketserver.StreamRequestHandler):
        def packet(self) -> tuple[int, bytes]:
            first, size, scale = self.rfile.read(1), 0, 1
            if not first:
                return 0, b""
            while True:
                byte = self.rfile.read(1)[0]
                size, scale = size + (byte & 127) * scale, scale * 128
                if byte < 128:
                    return first[0], self.rfile.read(size)

        def handle(self) -> None:
            while True:
                kind, body = self.packet()
                match kind >> 4:
                    case 1:
                        assert body[:7] == b"\0\4MQTT\4", body
                        texts, rest = [], body[10:]
                        while rest:
                            size = int.from_bytes(rest[:2], "big")
                            texts.append(rest[2 : 2 + size].decode())
                            rest = rest[2 + size :]
                        told.logins.append((texts[1] if body[7] & 0x80 else "", texts[2] if body[7] & 0x40 else ""))
                        self.wfile.write(bytes([0x20, 2, 0, told.code]))
                    case 3:
                        assert kind & 6 == 2, "at least once"
                        size = int.from_bytes(body[:2], "big")
                        told.got.append((body[2 : 2 + size].decode(), msgspec.json.decode(body[4 + size :]),
                                         bool(kind & 1)))
                        if not told.silent:
                            self.wfile.write(bytes([0x40, 2]) + body[2 + size : 4 + size])
                    case _:
                        return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    told.port = server.server_address[1]
    with serving(server):
        yield told


@contextmanager
def drip(seconds: float = 0.1) -> Iterator[int]:
    """A port where an answer comes byte by byte, and never ends."""
    listener, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def run() -> None:
        try:
            made, _ = listener.accept()
            with made:
                while not stop.is_set():
                    made.sendall(b"H")
                    time.sleep(seconds)
        except OSError:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        listener.close()
        thread.join(2)
