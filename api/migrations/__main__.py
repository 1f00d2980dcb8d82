"""Writes a migration against an empty server of its own."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from api import migrations
from infra.local.postgres import Postgres

if {"-h", "--help"} & set(sys.argv):
    raise SystemExit(f"{migrations.__doc__}\nExample: python -m api.migrations zones_of_plans")
name = [word for word in sys.argv[1:] if not word.startswith("--")]
with tempfile.TemporaryDirectory() as folder:
    server = Postgres(Path(folder)).start().ready()
    try:
        engine = create_engine(server.url)
        path = migrations.write(engine, name[0] if name else "tables")
        engine.dispose()
    finally:
        server.stop()
print(path)
