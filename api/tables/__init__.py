"""One noun a file: its tables, and how messages are folded into them. Importing this registers all of them."""

from api.folds import Fold
from api.tables import audit, cameras, offsets, users

__all__ = ["FOLDS", "audit", "cameras", "offsets", "users"]

# In the order in which a topic's records are folded.
FOLDS: list[Fold] = [*cameras.FOLDS]
