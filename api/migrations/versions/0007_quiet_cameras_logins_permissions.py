"""since when a camera is wished for and the topics are folded; logins that fail; permissions that gate something"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# They were held and allowed nothing.
EMPTY = ("cameras.review", "chat.edit", "chat.export", "chat.review", "chat.run", "compliance.add", "inspections.run",
         "people.export", "requests.edit", "requests.export", "requests.run", "system.add", "system.export",
         "system.remove", "system.review", "users.export", "users.review", "users.run")  # fmt: skip


def upgrade() -> None:
    op.add_column("cameras", sa.Column("wished", sa.BigInteger(), server_default="0", nullable=False))
    # of those that are there, not since 1970: whoever runs them has the usual time to say so
    op.execute("update cameras set wished = greatest(changed, (extract(epoch from now()) * 1000000)::bigint)")
    op.add_column("offsets", sa.Column("caught", sa.BigInteger(), nullable=True))

    op.drop_table("attempts")
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttles")),
    )
    op.create_index(op.f("ix_throttles_at"), "throttles", ["at"], unique=False)
    op.create_table(
        "known_addresses",
        sa.Column("user", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["users.id"], name=op.f("fk_known_addresses_user_users"),
                                ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user", "address", name=op.f("pk_known_addresses")),
    )  # fmt: skip
    # where somebody is logged in now, they have logged in before
    op.execute("""insert into known_addresses ("user", address, at) select "user", address, max(used) from logins
                  where kind = 'session' and address <> '' and address not like '%:%' group by 1, 2""")

    # the report of an inspection was for whoever saw the inspection
    op.execute("""insert into role_permissions (role, permission) select role, 'inspections.export'
                  from role_permissions where permission = 'inspections.view' on conflict do nothing""")
    table = sa.table("role_permissions", sa.column("permission"))
    op.execute(table.delete().where(table.c.permission.in_(EMPTY)))


def downgrade() -> None:
    op.drop_table("known_addresses")
    op.drop_table("throttles")
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_key"), "attempts", ["key"], unique=False)
    op.drop_column("offsets", "caught")
    op.drop_column("cameras", "wished")
