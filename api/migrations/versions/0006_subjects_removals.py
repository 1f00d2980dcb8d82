"""By whom episodes are found once routes and recognitions have expired, what is to go from the stores, and photos whose
faces are to"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "episode_tracks",
        sa.Column("episode", sa.String(length=200), nullable=False),
        sa.Column("track", sa.String(length=200), nullable=False),
        sa.Column("camera", sa.String(length=64), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("episode", "track", name=op.f("pk_episode_tracks")),
    )
    op.create_index(op.f("ix_episode_tracks_track"), "episode_tracks", ["track"], unique=False)
    op.create_table(
        "episode_people",
        sa.Column("episode", sa.String(length=200), nullable=False),
        sa.Column("track", sa.String(length=200), nullable=False),
        sa.Column("person", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("episode", "track", "person", name=op.f("pk_episode_people")),
    )
    op.create_index(op.f("ix_episode_people_person"), "episode_people", ["person"], unique=False)
    op.create_table(
        "removals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_removals")),
    )
    op.add_column("photos", sa.Column("hide", sa.Boolean(), server_default="false", nullable=False))
    op.create_index("ix_photos_hide", "photos", ["id"], unique=False, postgresql_where=sa.text("hide"))


def downgrade() -> None:
    op.drop_index("ix_photos_hide", table_name="photos")
    op.drop_column("photos", "hide")
    op.drop_table("removals")
    op.drop_index(op.f("ix_episode_people_person"), table_name="episode_people")
    op.drop_table("episode_people")
    op.drop_index(op.f("ix_episode_tracks_track"), table_name="episode_tracks")
    op.drop_table("episode_tracks")
