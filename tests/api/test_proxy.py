"""Behind a TLS proxy on the same machine: the nginx configuration of docs/operating.md, in a real nginx."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from api import auth, live
from api.app import create_app
from api.tables.users import Grant, User
from cli.api import serving
from infra.local import process
from pipeline import topics
from pipeline.settings import Settings

NAME = "mask.example.org"
PASSWORD = "correct horse battery"
GUIDE = topics.FILE.parent / "docs" / "operating.md"


@pytest.fixture
def nginx() -> str:
    found = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(found).exists():
        pytest.skip("needs infra/apt-test.txt: nginx")
    return found


@pytest.fixture
def tables(database: str, tmp_path: Path) -> Settings:
    """The tables alone, and how the API is told that a proxy is in front of it."""
    tls = process.free_port()
    return Settings(kafka="127.0.0.1:1", database=SecretStr(database), data=tmp_path / "data", log="warning",
                    port=process.free_port(), public_url=f"https://{NAME}:{tls}", secure_cookies=True,
                    trusted_proxies="127.0.0.1/32, ::1")


@dataclass
class Site:
    """What a browser far away knows."""

    tls: int
    plain: int
    trusts: ssl.SSLContext

    @property
    def origin(self) -> str:
        return f"https://{NAME}:{self.tls}"

    @contextmanager
    def browser(self, address: str = "127.0.0.2") -> Iterator[httpx.Client]:
        """At an address of its own; it finds the name where the proxy is, and asks as pages of ours do."""

        def named(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        with httpx.Client(
                base_url=f"https://127.0.0.1:{self.tls}", timeout=20, event_hooks={"request": [named]},
                transport=httpx.HTTPTransport(verify=self.trusts, local_address=address),
                headers={"host": f"{NAME}:{self.tls}", "origin": self.origin, "sec-fetch-site": "same-origin"}) as own:
            yield own


@pytest.fixture
def site(nginx: str, tables: Settings, tmp_path: Path) -> Iterator[Callable[[bool], Any]]:
    """`with site(True) as s`: the API behind nginx, which hands the host on, or puts its own in place of it."""
    authority, folder = trustme.CA(), tmp_path / "nginx"
    folder.mkdir()
    certificate = authority.issue_cert(NAME)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    tls, plain = int(tables.public_url.rpartition(":")[2]), process.free_port()
    (told,) = re.findall(r"^```nginx\n(.*?)^```", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for theirs, ours in (
        ("listen 80;", f"listen 127.0.0.1:{plain};"), ("listen 443 ssl;", f"listen 127.0.0.1:{tls} ssl;"),
        ("/etc/ssl/mask.example.org.pem", "both.pem"), ("/etc/ssl/mask.example.org.key", "both.pem"),
        ("http://127.0.0.1:8000", f"http://127.0.0.1:{tables.port}"),
    ):  # fmt: skip
        assert told.count(theirs) == 1, theirs
        told = told.replace(theirs, ours)
    server = uvicorn.Server(serving(create_app(tables), tables))
    thread = threading.Thread(target=server.run)
    thread.start()

    @contextmanager
    def behind(hands_on: bool) -> Iterator[Site]:
        http = told if hands_on else re.sub(r".*proxy_set_header Host .*\n", "", told)
        folders = "".join(f"{name}_temp_path {folder}/{name};\n" for name in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"daemon off;\nmaster_process off;\npid {folder}/pid;\nevents {{}}\n"
                                           f"http {{\naccess_log off;\n{folders}{http}}}\n")
        with (folder / "log").open("wb") as log:
            running = subprocess.Popen([nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], stderr=log)
        try:
            assert process.wait_for(lambda: listens(tls) or running.poll() is not None, 20)
            assert running.poll() is None, (folder / "log").read_text()
            yield Site(tls, plain, trusts)
        finally:
            running.kill()
            running.wait()

    try:
        assert process.wait_for(lambda: server.started, 20)
        yield behind
    finally:
        server.should_exit = True
        thread.join(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("hands_on", [True, False], ids=["host handed on", "host put in its place"])
def test_the_api_behind_the_documented_nginx(
    site: Any, tables: Settings, sessions: sessionmaker[Session], hands_on: bool
) -> None:
    with sessions() as session, session.begin():
        user = User(name="lin", password=auth.hashed(PASSWORD))
        session.add(user)
        session.flush()
        session.add(Grant(user=user.id, role="admin"))
        id_ = user.id
    with site(hands_on) as s, s.browser() as far:
        moved = httpx.get(f"http://127.0.0.1:{s.plain}/episodes?x=1", headers={"host": NAME})
        assert (moved.status_code, moved.headers["location"]) == (301, f"https://{NAME}/episodes?x=1")
        # in: the page's own requests may change things, those of another page may not; the address is the browser's
        told = {"name": "lin", "password": PASSWORD}
        assert far.post("/v1/login", json=told, headers={"origin": "https://evil.example"}).status_code == 403
        answer = far.post("/v1/login", json=told, headers={"x-forwarded-for": "192.0.2.9"})
        assert answer.status_code == 200, answer.text
        assert "secure" in answer.headers["set-cookie"].lower()
        assert far.put("/v1/me/password", json={"old": "wrong", "new": PASSWORD}).status_code == 403
        (mine,) = far.get("/v1/me/sessions").json()
        assert mine["address"] == "127.0.0.2"
        # a proxy that is not ours is not believed
        direct = httpx.post(f"http://127.0.0.1:{tables.port}/v1/login", json=told | {"password": "wrong"},
                            headers={"x-forwarded-for": "127.0.0.2"})
        assert direct.status_code == 401
        # bodies that nginx would refuse by itself reach us
        large = far.post("/v1/analyse", content=b"[" + b" " * (20 << 20), headers={"content-type": "application/json"})
        assert (large.status_code, large.headers["content-type"]) == (400, "application/problem+json")
        # what happens is told as it happens
        with far.stream("GET", "/v1/live") as feed:
            lines = feed.iter_lines()
            assert next(lines) == "event: hello"
            with sessions() as session, session.begin():
                live.tell(session, live.Event("grants.changed", {}, users=(id_,)))
            assert "event: grants.changed" in itertools.islice(lines, 5)  # before the first beat
        # and sockets open, for our pages
        cookie = {"Cookie": f"{auth.COOKIE}={far.cookies[auth.COOKIE]}"}
        address = f"wss://{NAME}:{s.tls}/v1/chat/socket"
        with connect(address, sock=socket.create_connection(("127.0.0.1", s.tls)), ssl=s.trusts,
                     additional_headers=cookie, origin=s.origin) as chat:  # type: ignore[arg-type]
            chat.send(json.dumps({"join": "site:nowhere", "since": 0}))
            assert "problem" in json.loads(chat.recv(timeout=20))
        with pytest.raises(InvalidStatus, match="403"), connect(
                address, sock=socket.create_connection(("127.0.0.1", s.tls)), ssl=s.trusts,
                additional_headers=cookie, origin="https://evil.example"):  # type: ignore[arg-type]
            pass
