"""What the API's tests may ask for: a real database with the tables in it, the app on it, and users of every role."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from litestar.testing import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.orm import Session, sessionmaker
from world import World, made

from api import auth, db, migrations
from api.app import create_app
from api.tables.users import Grant, User
from infra.local import milvus, process
from infra.local.postgres import Postgres
from pipeline.settings import Settings

As = Callable[..., TestClient[Any]]


@pytest.fixture(scope="session", autouse=True)
def openapi_examples() -> Iterator[None]:
    """What is asked and answered becomes the examples of the OpenAPI document, where RECORD names their file."""
    if not (file := os.environ.get("RECORD")):
        yield
        return
    from recording import Recorder

    recorder, send = Recorder(), httpx.Client.send

    def listened(self: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        response = send(self, request, **more)
        if response.is_closed:  # read whole
            recorder.record(request, response)
        return response

    httpx.Client.send = listened  # type: ignore[method-assign]
    yield
    httpx.Client.send = send  # type: ignore[method-assign]
    recorder.write(Path(file))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real server for the whole run, with the tables in a database `template`, from which each test copies."""
    server = Postgres(tmp_path_factory.mktemp("database")).start().ready()
    with create_engine(server.url, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as connection:
        connection.execute(text("create database tables_template"))
    engine = create_engine(server.url.rsplit("/", 1)[0] + "/tables_template")
    migrations.upgrade(engine)
    with Session(engine) as session, session.begin():
        auth.prepare(session)
    engine.dispose()
    yield server
    server.stop()


@contextmanager
def copied(postgres: Postgres) -> Iterator[str]:
    """Address of an own database: tables and built-in roles, nothing else."""
    name = f"t{uuid.uuid4().hex[:12]}"
    engine = create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {name} template tables_template"))
    yield postgres.url.rsplit("/", 1)[0] + f"/{name}"
    with engine.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    engine.dispose()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """That of one test."""
    with copied(postgres) as address:
        yield address


@pytest.fixture(scope="session")
def vectors_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a real Milvus Lite for the whole run; collections are apart by `settings.topic_prefix`."""
    port, folder = process.free_port(), tmp_path_factory.mktemp("vectors")
    with (folder / "log").open("wb") as log:
        server = process.spawn(milvus.command(folder, port), log)
    milvus.ready(port)
    yield port
    process.stop(server, 10)


@pytest.fixture
def tables(topics: Settings, database: str, vectors_server: int) -> Settings:
    """Settings with a broker, every topic, a database with every table, and a place for vectors."""
    return topics.model_copy(update={"database": SecretStr(database), "vectors_port": vectors_server})


@pytest.fixture
def engine(tables: Settings) -> Iterator[Engine]:
    made = db.connect(tables)
    yield made
    made.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return db.sessions(engine)


@pytest.fixture
def app(tables: Settings) -> Iterator[TestClient[Any]]:
    """The API over real parts; nobody is logged in."""
    with TestClient(create_app(tables), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
def as_(app: TestClient[Any], sessions: sessionmaker[Session], tables: Settings) -> As:
    """`as_("viewer", site="hall")`: a client of a new user who has this role there."""

    def client(role: str = "admin", site: str = "", camera: str = "", until: datetime | None = None,
               name: str = "") -> TestClient[Any]:
        with sessions() as session, session.begin():
            user = User(name=name or f"{role}-{uuid.uuid4().hex[:6]}")
            session.add(user)
            session.flush()
            session.add(Grant(user=user.id, role=role, site=site, camera=camera, until=until))
            token, _ = auth.log_in(session, user.id, tables, kind="token")
        own = copy.copy(app)  # the same running app, other headers
        own.headers = httpx.Headers({"authorization": f"Bearer {token}"})
        own.cookies = httpx.Cookies()
        return own

    return client


@pytest.fixture(scope="module")
def tables_of_module(settings_in: Callable[[Path], AbstractContextManager[Settings]], postgres: Postgres,
                     vectors_server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """As `tables`, once for all the tests of a module that puts these three in the place of `tables`, `app` and
    `sessions`: each of them has to keep to its own users and sites."""
    from agents.topics import apply

    with settings_in(tmp_path_factory.mktemp("tables")) as settings, copied(postgres) as database:
        apply(settings)
        yield settings.model_copy(update={"database": SecretStr(database), "vectors_port": vectors_server})


@pytest.fixture(scope="module")
def app_of_module(tables_of_module: Settings) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(tables_of_module), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture(scope="module")
def address_of_module(app_of_module: TestClient[Any]) -> Iterator[str]:
    """Where that app is served too: for feeds and whatever else has no end."""
    with serving(app_of_module) as address:
        yield address


@pytest.fixture(scope="module")
def sessions_of_module(tables_of_module: Settings) -> Iterator[sessionmaker[Session]]:
    made = db.connect(tables_of_module)
    yield db.sessions(made)
    made.dispose()


@pytest.fixture(scope="module")
def world(settings_in: Callable[[Path], AbstractContextManager[Settings]], postgres: Postgres, vectors_server: int,
          tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two sites with everything in them, for all the tests of a module."""
    from agents.topics import apply

    with settings_in(tmp_path_factory.mktemp("world")) as settings, copied(postgres) as database:
        apply(settings)
        own = settings.model_copy(update={"database": SecretStr(database), "vectors_port": vectors_server})
        with made(own) as everything:
            yield everything


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[str]:
    """The address at which the app of that world is served."""
    with serving(world.app) as address:
        yield address


@contextmanager
def serving(app: TestClient[Any]) -> Iterator[str]:
    """The address at which an app is served, as `maskwatch up` does it: in the loop it lives in."""
    server = uvicorn.Server(uvicorn.Config(app.app, "127.0.0.1", process.free_port(), log_level="error",
                                           lifespan="off", timeout_graceful_shutdown=2))
    running = app.blocking_portal.start_task_soon(server.serve)
    try:
        assert process.wait_for(lambda: server.started, 20)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        running.result(20)
