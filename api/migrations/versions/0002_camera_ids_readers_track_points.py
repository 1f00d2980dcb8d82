"""Ids that cameras have or had, readers of a MediaMTX, and where faces were in the picture"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "camera_ids",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_camera_ids")),
    )
    # of those that are there, and of those that were removed and have left something
    op.execute("insert into camera_ids (id, site) select id, site from cameras")
    op.execute("insert into camera_ids (id, site) select distinct on (camera) camera, site from sightings "
               "order by camera, start desc on conflict do nothing")
    op.create_table(
        "mediamtx_readers",
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("login", sa.String(length=36), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_mediamtx_readers")),
    )
    op.create_table(
        "track_points",
        sa.Column("track", sa.String(length=200), nullable=False),
        sa.Column("second", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("x", sa.REAL(), nullable=False),
        sa.Column("y", sa.REAL(), nullable=False),
        sa.Column("height", sa.REAL(), nullable=False),
        sa.ForeignKeyConstraint(["track"], ["sightings.id"], name=op.f("fk_track_points_track_sightings"),
                                ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("track", "second", name=op.f("pk_track_points")),
    )


def downgrade() -> None:
    op.drop_table("track_points")
    op.drop_table("mediamtx_readers")
    op.drop_table("camera_ids")
