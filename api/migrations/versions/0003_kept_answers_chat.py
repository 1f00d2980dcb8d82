"""How far the right reached under which an answer was kept, and messages of the chat that were taken back"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("idempotency", sa.Column("reach", postgresql.JSONB(astext_type=sa.Text()),
                                           server_default="[false, [], []]", nullable=False))
    # nobody knows under which rights these were given, nor what is in them
    op.execute("delete from idempotency")
    op.add_column("chat", sa.Column("removed", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("chat", sa.Column("remover", sa.String(length=36), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("chat", "remover")
    op.drop_column("chat", "removed")
    op.drop_column("idempotency", "reach")
