"""rules for roles, proof of place"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    roles = postgresql.ARRAY(sa.String(length=120))
    op.add_column("episodes", sa.Column("roles", roles, server_default="{}", nullable=False))
    op.alter_column("episodes", "exempt", existing_type=sa.String(length=64), type_=sa.String(length=200))
    op.add_column("replay_episodes", sa.Column("roles", roles, server_default="{}", nullable=False))
    op.add_column("rounds", sa.Column("positions", sa.Boolean(), server_default="true", nullable=False))
    op.add_column("photos", sa.Column("camera", sa.String(length=64), server_default="", nullable=False))
    op.add_column("photos", sa.Column("against", sa.String(length=12), server_default="", nullable=False))
    op.add_column("photos", sa.Column("unproven", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("photos", sa.Column("blur_others", sa.Boolean(), server_default="false", nullable=False))
    # of older photos only those with a checkpoint were compared with a place
    op.execute("update photos set against = 'checkpoint', unproven = visit and distance is null "
               "where checkpoint <> '' or distance is not null")


def downgrade() -> None:
    for table, column in (("photos", "blur_others"), ("photos", "unproven"), ("photos", "against"),
                          ("photos", "camera"), ("rounds", "positions"), ("replay_episodes", "roles"),
                          ("episodes", "roles")):
        op.drop_column(table, column)
    op.alter_column("episodes", "exempt", existing_type=sa.String(length=200), type_=sa.String(length=64))
