"""Alembic's way in: `api.migrations.upgrade(engine)` calls it with a connection of ours."""

from __future__ import annotations

from alembic import context

import api.tables
from api.db import Base

assert api.tables  # noqa: S101 -- imported for the tables it registers

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata,
                  compare_type=True, compare_server_default=False)
with context.begin_transaction():
    context.run_migrations()
