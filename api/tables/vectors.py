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
            if context.written is not None:
                context.written.update(vectors.row_id(one.face) for one in those)

    def clear(self, session: Session, context: Context, since: int) -> None:
        """Milvus has no part in the transaction: so the rows stay, are written again under the same ids, and only when
        all are through those go that were not."""
        written = context.written = set[int]()

        def rest() -> None:
            vectors.store(context.settings).keep(written, f"at >= {since}")

        context.before.append(rest)


def masked(face: Face) -> bool:
    """What hides part of a face: a mask, well worn or not. What the track says counts, and the look without one."""
    state = face.state if face.state != "unknown" else face.look
    return state in ("worn", "incorrect")


FOLDS = [Embeddings()]
