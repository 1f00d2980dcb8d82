"""whose log the offsets are of"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("offsets", sa.Column("topic_id", sa.String(length=36), server_default="", nullable=False))
    op.add_column("offsets", sa.Column("epoch", sa.Integer(), server_default="-1", nullable=False))
    op.add_column("offsets", sa.Column("moved", sa.DateTime(timezone=True), server_default=sa.text("now()"),
                                       nullable=False))


def downgrade() -> None:
    op.drop_column("offsets", "moved")
    op.drop_column("offsets", "epoch")
    op.drop_column("offsets", "topic_id")
