"""A MediaMTX beside the API: who may read what from it, and that nothing goes on there that may not be seen.

It asks for each reader (`authMethod: http`): the page has a ticket of ours, which holds for one path and a few minutes.
Cameras with privacy areas and cameras that are stopped are refused. It asks once, so whoever reads what they may not
read any more is thrown out: which login a session was let in for is kept for as long as it lasts.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, quote

import httpx2
import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api import auth
from api.db import now
from api.permissions import Who
from api.tables.cameras import CameraRow
from api.tables.readers import Reader
from api.tables.users import Login, User
from pipeline.cameras import ID
from pipeline.settings import Settings

log = structlog.get_logger()
HOLDS = 300  # seconds that a ticket can be used: to connect, and to connect again
LOOK = 1.0  # seconds between two looks at who reads what
GONE = timedelta(hours=1)  # after which a session that is not there any more is forgotten: it may be about to begin
WEBRTC = "webRTCSession"  # what MediaMTX calls a reader by WebRTC


def path(camera: str, source: int) -> str:
    """The name under which MediaMTX has a camera's source."""
    return f"{camera}-{source}"


def ticket(db: Session, who: Who, name: str) -> str:
    """Nothing that is kept: signed with what is kept of the login, so it ends with the login."""
    login = db.get_one(Login, who.login)
    until = int(time.time()) + HOLDS
    return f"{login.id}.{until}.{_signed(login.digest, name, until)}"


def _signed(key: str, name: str, until: int) -> str:
    return hmac.new(key.encode(), f"{name}|{until}".encode(), hashlib.sha256).hexdigest()


def holder(db: Session, name: str, query: str) -> Who | None:
    """Who holds the ticket in a query, with the grants of now; None when it is none."""
    parts = parse_qs(query).get("ticket", [""])[0].split(".")
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit() or len(parts[1]) > 12:
        return None
    id, until, mark = parts[0], int(parts[1]), parts[2]
    login = db.get(Login, id[:36])
    if login is None or until < time.time():
        return None
    if not hmac.compare_digest(mark.encode(), _signed(login.digest, name, until).encode()):
        return None
    return logged_in(db, login.id)


def logged_in(db: Session, login: str) -> Who | None:
    """Whose login it is, with the grants of now; None when it has ended."""
    user = db.scalar(select(User).join(Login, Login.user == User.id).where(
        Login.id == login, Login.expires > now(), User.active))
    return Who(user.id, user.name, login, auth.grants_of(db, user.id, now())) if user else None


def let_in(db: Session, who: Who, session: str) -> None:
    """MediaMTX has opened a session for this login."""
    db.execute(insert(Reader).values(session=session, login=who.login).on_conflict_do_nothing())


def readable(db: Session, name: str) -> CameraRow | None:
    """The camera of a path, when it runs, has that source, and nothing of it is hidden."""
    camera, _, source = name.rpartition("-")
    row = db.get(CameraRow, camera) if ID.fullmatch(camera) and source.isascii() and source.isdigit() else None
    if row is None:
        return None
    wish = row.camera
    return row if wish.running and not wish.hidden and int(source) < len(wish.sources) else None


class Door:
    """Throws out who reads what may not be read any more: MediaMTX asks only when somebody comes."""

    def __init__(self, settings: Settings, make: sessionmaker[Session]) -> None:
        self.settings, self.make = settings, make
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self.settings.mediamtx and self.settings.mediamtx_api:
            self._thread = threading.Thread(target=self._run, name="mediamtx", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self) -> None:
        said = ""
        with httpx2.Client(base_url=self.settings.mediamtx_api, timeout=5) as client:
            while not self._stop.wait(LOOK):
                try:
                    self.look(client)
                    said = ""
                except (httpx2.HTTPError, SQLAlchemyError, ValueError) as error:
                    if str(error) != said:
                        log.warning("mediamtx cannot be watched over", error=str(error))
                    said = str(error)

    def look(self, client: httpx2.Client) -> None:
        """Once at everybody who reads."""
        page, pages, there = 0, 1, set[str]()
        while page < pages:
            answer = client.get("/v3/paths/list", params={"itemsPerPage": 100, "page": page}).raise_for_status().json()
            with self.make() as db:
                for each in answer.get("items", []):
                    name, readers = str(each.get("name", "")), each.get("readers") or ()
                    row = readable(db, name) if readers else None
                    for reader in readers:
                        there.add(str(reader.get("id", ""))[:64])
                        if not self._may(db, row, reader):
                            self._out(client, name, reader)
            page, pages = page + 1, int(answer.get("pageCount", 1))
        with self.make() as db, db.begin():
            db.execute(delete(Reader).where(Reader.created < now() - GONE, Reader.session.not_in(there)))

    def _may(self, db: Session, row: CameraRow | None, reader: dict[str, Any]) -> bool:
        """Whoever came in without our word, by another protocol or before we kept it, may not."""
        known = db.get(Reader, str(reader.get("id", ""))[:64]) if reader.get("type") == WEBRTC else None
        if row is None or known is None:
            return False
        who = logged_in(db, known.login)
        return who is not None and who.may("cameras.view", row.site, row.id)

    def _out(self, client: httpx2.Client, path: str, reader: dict[str, Any]) -> None:
        kind = {WEBRTC: "webrtcsessions", "rtspSession": "rtspsessions", "rtspsSession": "rtspssessions",
                "rtmpConn": "rtmpconns", "srtConn": "srtconns"}.get(reader.get("type", ""))
        if kind:
            client.post(f"/v3/{kind}/kick/{quote(str(reader.get('id', '')), safe='')}")
            log.warning("reader thrown out of mediamtx", path=path, kind=kind)
