"""`maskwatch doctor`: what is missing is named with the command that mends it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from api import migrations
from infra.local import process, stores
from infra.local.doctor import Check, examine
from infra.local.postgres import Postgres
from pipeline.settings import Settings


def checks(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in examine(settings)}


def free(**more: Any) -> Settings:
    """Settings whose ports nobody has."""
    names = ("kafka_port", "port", "postgres_port", "vectors_port")
    return Settings(**({name: process.free_port() for name in names} | more))


def test_a_bare_data_folder_lacks_only_the_weights(tmp_path: Path) -> None:
    settings = free(data=tmp_path)
    found = checks(settings)
    assert [check.name for check in found.values() if check.state == "missing"] == ["weights"]
    assert found["weights"].mend == "maskwatch models fetch"
    assert found["broker's jars"].found.startswith("Apache Kafka 4.")
    assert found["broker"].found == "the embedded one, not running"
    assert found["database"].found == "the embedded one, not running"
    assert found["vectors"].found == "the embedded ones, not running"
    assert found["pictures"].found == f"the folder {tmp_path}/pictures, not made yet"
    assert found["dashboard"].state in ("ok", "warning")
    assert found["runtime"].found.startswith(f"litert f32, {settings.cores} thread")


def test_taken_ports_are_named_with_who_has_them(tmp_path: Path) -> None:
    names = {"broker's port": "kafka_port", "API's port": "port", "database's port": "postgres_port",
             "vectors' port": "vectors_port"}
    with ExitStack() as stack:
        taken = {name: stack.enter_context(socket.socket()) for name in names.values()}
        for each in taken.values():
            each.bind(("127.0.0.1", 0))
            each.listen()
        found = checks(Settings(data=tmp_path, **{name: each.getsockname()[1] for name, each in taken.items()}))
    for name, setting in ((name, f"MASKWATCH_{setting.upper()}") for name, setting in names.items()):
        assert found[name].state == "missing"
        assert f"pid {os.getpid()}" in found[name].found
        assert setting in found[name].mend


def test_topics_that_differ_are_named(settings: Settings) -> None:
    from agents.topics import apply
    from pipeline.topics import load

    before = checks(settings)
    assert before["broker"].state == "ok"
    assert before["topics"].state == "missing"
    assert before["topics"].mend == "maskwatch topics apply"
    apply(settings, load())
    assert checks(settings)["topics"] == Check("topics", "ok", "as topics.yaml says")


def test_a_broker_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    found = checks(free(data=tmp_path, kafka=f"127.0.0.1:{process.free_port()}"))
    assert found["broker"].state == "missing"
    assert "no broker answers: 127.0.0.1:" in found["broker"].found
    assert "java" not in found  # not needed with somebody else's broker


def test_for_programs_it_is_json_and_the_exit_code_says_all(tmp_path: Path) -> None:
    env = os.environ | {
        "MASKWATCH_DATA": str(tmp_path),
        "MASKWATCH_KAFKA_PORT": str(process.free_port()),
        "MASKWATCH_PORT": str(process.free_port()),
        "MASKWATCH_POSTGRES_PORT": str(process.free_port()),
        "MASKWATCH_VECTORS_PORT": str(process.free_port()),
    }
    run = subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", "--json"], env=env, capture_output=True, text=True
    )
    listed = json.loads(run.stdout)
    assert run.returncode == 1
    assert {entry["state"] for entry in listed} <= {"ok", "warning", "missing"}
    assert [entry["name"] for entry in listed if entry["state"] == "missing"] == ["weights"]


def test_the_database_is_named_with_what_its_tables_lack(tmp_path: Path) -> None:
    server = Postgres(tmp_path).start().ready()

    def found() -> dict[str, Check]:
        return {check.name: check for check in stores.examine(free(data=tmp_path, postgres_port=server.port))}

    try:
        engine = create_engine(server.url)
        assert found()["database"].found.startswith("PostgreSQL 1")
        assert found()["database's port"].found.endswith(", ours")
        assert (found()["tables"].found, found()["tables"].mend[:17]) == ("none yet", "maskwatch migrate")
        migrations.upgrade(engine)
        assert found()["tables"] == Check("tables", "ok", f"at {migrations.head()}, the newest")
        with engine.begin() as connection:  # as a checkout of last month has it: at the newest, and not the same
            connection.execute(text("alter table sites drop column blur_others"))
            connection.execute(text("alter table offsets alter column next type integer"))
            connection.execute(text("create table somebodys_own (id int)"))
        assert found()["tables"].state == "missing"
        assert found()["tables"].found == (f"at {migrations.head()}, the newest, and yet: no column sites.blur_others; "
                                           "offsets.next is INTEGER, not BIGINT")
        assert found()["tables"].mend == migrations.MEND
        env = os.environ | {"MASKWATCH_DATA": str(tmp_path), "MASKWATCH_POSTGRES_PORT": str(server.port)}

        def migrate() -> str:
            run = subprocess.run([sys.executable, "-m", "cli.main", "migrate"], env=env, capture_output=True, text=True)
            assert run.returncode == 1
            assert "Traceback" not in run.stderr
            return run.stderr

        said = migrate()
        assert "no column sites.blur_others" in said
        assert migrations.MEND in said
        with engine.begin() as connection:  # and at an older one: the next step finds other tables than it expects
            connection.execute(text("alter table offsets drop column epoch"))
            connection.execute(text("update alembic_version set version_num = '0004'"))
        assert 'column "topic_id" of relation "offsets" already exists' in migrate()
        with engine.begin() as connection:
            connection.execute(text("update alembic_version set version_num = '9999'"))
        assert "newer Maskwatch" in found()["tables"].mend
        assert "a newer Maskwatch made them" in migrate()
        engine.dispose()
    finally:
        server.stop()
    assert found()["database"].found == "the embedded one, not running"


def test_stores_elsewhere_that_do_not_answer_are_said_so_without_their_passwords(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = process.free_port()
    monkeypatch.setattr(stores, "PATIENCE", 1)
    settings = free(data=tmp_path, database=SecretStr(f"postgresql://me:hunter2@127.0.0.1:{nobody}/there"),
                    vectors=f"http://127.0.0.1:{nobody}", pictures="nowhere://bucket")
    found = {check.name: check for check in stores.examine(settings)}
    assert {check.name: check.state for check in found.values() if check.name != "dashboard"} == {
        "database": "missing", "vectors": "missing", "pictures": "missing"}
    assert "hunter2" not in "".join(check.found for check in found.values())
    assert "***" in found["database"].found
    assert all(f"MASKWATCH_{name.upper()}" in found[name].mend for name in ("database", "vectors", "pictures"))


def test_the_first_migration_is_never_changed() -> None:
    """Databases have it: there it would not run again, and each of them would lack what it now has more. What the
    tables need besides is another migration."""
    first = migrations.VERSIONS / "0001_tables.py"
    assert hashlib.sha256(first.read_bytes()).hexdigest() == (
        "36e026f5e221ddf5dbe846b0a122ff87a71f3d79d27796049a766021b3384631")


def test_a_dashboard_of_ones_own_is_the_one_that_is_looked_at(tmp_path: Path) -> None:
    def found() -> Check:
        return {each.name: each for each in stores.examine(free(data=tmp_path, dashboard=tmp_path))}["dashboard"]

    assert found().state == "warning"
    assert found().found == f"expected {tmp_path}/index.html, found none"
    (tmp_path / "index.html").write_text("")
    assert found().found.startswith(f"that of MASKWATCH_DASHBOARD, {tmp_path}, of ")


def test_the_dashboard_is_built_missing_or_old(tmp_path: Path) -> None:
    source, page = tmp_path / "src" / "main.ts", tmp_path / "dist" / "index.html"
    source.parent.mkdir()
    source.write_text("")
    assert stores._dashboard(tmp_path).mend == "make dashboard"
    assert "packages are not fetched" in stores._dashboard(tmp_path).found
    page.parent.mkdir()
    page.write_text("")
    os.utime(source, (1, 1))
    assert stores._dashboard(tmp_path).state == "ok"
    os.utime(page, (1, 1))
    os.utime(source, (9, 9))
    assert stores._dashboard(tmp_path) == Check(
        "dashboard", "warning", "built 1970-01-01 00:00 UTC, its sources are newer", "make dashboard")
