"""The tables' history: brings a database to what `api/tables/` says, and writes the next step of it.

`python -m api.migrations NAME` compares the tables with the newest migration and writes what is missing. A migration
that somebody may have in a database is never changed: there it would not run again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

FOLDER = Path(__file__).parent
VERSIONS = FOLDER / "versions"
LOCK = 7_041_001  # advisory: two processes that start together migrate one after the other


def config(connection: Connection, versions: Path = VERSIONS) -> Config:
    made = Config()
    made.set_main_option("script_location", str(FOLDER))
    made.set_main_option("version_locations", str(versions))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def upgrade(engine: Engine) -> None:
    """Every migration that the database has not seen, in one transaction; at once when there is none."""
    with engine.begin() as connection:
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        command.upgrade(config(connection), "head")


def revision(engine: Engine) -> str:
    """Of the database; empty: it has no tables yet."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def head() -> str:
    """Of the code: the newest migration."""
    return _script().get_current_head() or ""


def known() -> set[str]:
    """Every migration that the code has."""
    return {each.revision for each in _script().walk_revisions()}


def _script() -> ScriptDirectory:
    return ScriptDirectory(str(FOLDER), version_locations=[str(VERSIONS)])


# What is to be done about tables that no released version has made.
MEND = ("They were made by a version under development. Either begin with an empty database (`maskwatch down`, then "
        "move `postgres` out of the data folder, or name another MASKWATCH_DATABASE): what the topics still hold is "
        "folded again, what people wrote is not in it. Or add by hand what is named, then `maskwatch migrate`")
# Without these the code cannot work; what else differs (an index, a table of somebody's own) does no harm.
NEEDED = ("add_table", "add_column", "remove_column", "modify_type", "modify_nullable")


def lacking(engine: Engine) -> list[str]:
    """In words, what stands between the tables as they are and the code, although each migration has run: they were
    made by a version under development, whose migrations were others."""
    found = []
    for kind, *what in differences(engine):
        if kind == "add_table":
            found.append(f"no table {what[0].name}")
        elif kind == "add_column":
            found.append(f"no column {what[1]}.{what[2].name}")
        elif kind == "remove_column":
            if not what[2].nullable and what[2].server_default is None:
                found.append(f"a column {what[1]}.{what[2].name} that nobody fills")
        elif kind in NEEDED:
            found.append(f"{what[1]}.{what[2]} is {what[-2]}, not {what[-1]}")
    return sorted(found)


def differences(engine: Engine) -> list[tuple[Any, ...]]:
    """What the tables of the code have that the database does not, and the other way."""
    import api.tables
    from api.db import Base

    assert api.tables  # noqa: S101
    with engine.connect() as connection:
        told = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
    # what is different about one column comes in a list of its own
    return [each for one in told for each in (one if isinstance(one, list) else [one])]


def write(engine: Engine, name: str) -> Path:
    """The next migration, put in place whole; `engine` has an empty database."""
    with tempfile.TemporaryDirectory() as folder, engine.begin() as connection:
        shutil.copytree(VERSIONS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        made, number = config(connection, Path(folder)), f"{len(list(Path(folder).glob('[0-9]*.py'))) + 1:04}"
        command.upgrade(made, "head")
        command.revision(made, name, autogenerate=True, rev_id=number)
        (new,) = Path(folder).glob(f"{number}_*.py")
        for words in (["check", "--fix", "--ignore=E501"], ["format"]):
            subprocess.run([sys.executable, "-m", "ruff", words[0], "--quiet", *words[1:], str(new)], check=False)
        shutil.copyfile(new, VERSIONS / f".{new.name}")
        return (VERSIONS / f".{new.name}").replace(VERSIONS / new.name)
