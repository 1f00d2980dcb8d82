"""One noun a file: its tables, and how messages are folded into them. Importing this registers all of them."""

from api.folds import Fold
from api.tables import (
    alerts,
    audit,
    cameras,
    compliance,
    deliveries,
    episodes,
    erased,
    idempotency,
    inspections,
    offsets,
    outbox,
    people,
    recognised,
    requests,
    retention,
    sightings,
    trajectories,
    users,
    vectors,
)

__all__ = [
    "FOLDS",
    "alerts",
    "audit",
    "cameras",
    "compliance",
    "deliveries",
    "episodes",
    "erased",
    "idempotency",
    "inspections",
    "offsets",
    "outbox",
    "people",
    "recognised",
    "requests",
    "retention",
    "sightings",
    "trajectories",
    "users",
    "vectors",
]

# In the order in which a topic's records are folded.
FOLDS: list[Fold] = [*cameras.FOLDS, *compliance.FOLDS, *sightings.FOLDS, *trajectories.FOLDS, *episodes.FOLDS,
                     *vectors.FOLDS, *recognised.FOLDS, *inspections.FOLDS]
