"""What a handler may ask for by naming a parameter: `db: Db, who: By, settings: Config`."""

from __future__ import annotations

from litestar.di import NamedDependency
from sqlalchemy.orm import Session

from api.permissions import Who
from pipeline.settings import Settings

Db = NamedDependency[Session]  # the transaction: committed before the answer leaves, unless the handler raises
By = NamedDependency[Who]  # the user who asks
Config = NamedDependency[Settings]
