"""Vectors of faces: folded from `faces.embedded` into Milvus, before the transaction that says so ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from api import vectors
from api.folds import Context, Told
from api.vectors import Vector
from pipeline.messages import Face, Faces


class Embeddings:
    """`faces.embedded` -> Milvus. After a crash the same rows are written once more, under the same ids."""

    name, topic = "vectors", "faces.embedded"

    def fold(self, session: Session, context: Context, messages: Sequence[Told]) -> None:
        rows: defaultdict[str, list[Vector]] = defaultdict(list)
        for told in messages:
            message: Faces = told.message
            if message.privacy == "anonymous":
                continue
            for face in message.faces:
                if face.embedding:
                    rows[vectors.space(message.models, len(face.embedding))].append(Vector(
                        face.id, face.track, message.site, message.camera, message.at, masked(face), face.quality,
                        face.embedding))  # fmt: skip
        for space, those in rows.items():
            vectors.store(context.settings).upsert(space, those)

    def clear(self, session: Session, context: Context, since: int) -> None:
        """At once: Milvus has no part in the transaction. A rebuild that is broken off is to be run again."""
        if since:
            vectors.store(context.settings).delete(f"at >= {since}")
        else:
            vectors.store(context.settings).drop()


def masked(face: Face) -> bool:
    """What hides part of a face: a mask, well worn or not. What the track says counts, and the look without one."""
    state = face.state if face.state != "unknown" else face.look
    return state in ("worn", "incorrect")


FOLDS = [Embeddings()]
