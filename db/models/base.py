"""What every table shares: the metadata, key columns and the composite links between tenant tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, declared_attr, mapped_column
from uuid_utils.compat import uuid7

type_map = {
    UUID: Uuid(),
    datetime: DateTime(timezone=True),
    str: Text(),
    bytes: LargeBinary(),
    dict[str, Any]: JSONB(none_as_null=True),
    list[Any]: JSONB(none_as_null=True),
    list[str]: ARRAY(Text()),
}


class Base(DeclarativeBase):
    """The root of all tables."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(constraint_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(constraint_name)s_fkey",
        }
    )
    type_annotation_map = type_map


class Created:
    """The time a row was made, by the database's clock."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)


class Timestamps(Created):
    """When a row was made and last changed."""

    updated_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), onupdate=func.now(), sort_order=91
    )


class Keyed:
    """A table of the whole installation, with an ordered id made in Python."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-10)


class Tenant:
    """A workspace's own table: the key begins with the workspace, so that every index and reference does."""

    workspace_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-20)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7, sort_order=-10)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy hands over the class
        # Ids are unique by themselves (UUIDv7), so the ORM knows a row by its id alone.
        return {"primary_key": ["id"]}


def of_workspace() -> ForeignKeyConstraint:
    """Tie a table straight to its workspace, whose deletion takes the rows along."""
    return ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="workspace_id", ondelete="CASCADE")


def parent(column: str, table: str, *, ondelete: str | None = "CASCADE") -> ForeignKeyConstraint:
    """Tie a column to a row of the same workspace; row-level security does not stop foreign references."""
    return ForeignKeyConstraint(
        ["workspace_id", column], [f"{table}.workspace_id", f"{table}.id"], name=column, ondelete=ondelete
    )


def forgets(column: str) -> str:
    """Say what a deleted parent leaves behind: this column becomes NULL, the workspace stays."""
    return f"SET NULL ({column})"


def user_link(name: str) -> ForeignKey:
    """Point to a user who may disappear; the row stays."""
    return ForeignKey("users.id", name=name, ondelete="SET NULL")


def one_of(column: str, values: Sequence[str]) -> CheckConstraint:
    """Close an enumeration."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def unique(name: str, *columns: str) -> UniqueConstraint:
    """Make columns unique within a workspace."""
    return UniqueConstraint("workspace_id", *columns, name=name)


def indexed(name: str, *columns: str, where: str | None = None, is_unique: bool = False) -> Index:
    """Index columns within a workspace."""
    return Index(
        name, "workspace_id", *columns, unique=is_unique, postgresql_where=text(where) if where else None
    )


def door_index(name: str, *columns: str, where: str | None = None, is_unique: bool = False) -> Index:
    """Index columns across workspaces: only the doors of db/doors.py look rows up this way."""
    return Index(name, *columns, unique=is_unique, postgresql_where=text(where) if where else None)


def json_column() -> Mapped[dict[str, Any]]:
    """Hold an object that is never NULL."""
    return mapped_column(default=dict, server_default=text("'{}'::jsonb"))


def number(default: int = 0) -> Mapped[int]:
    """Hold a count that starts at a known value."""
    return mapped_column(BigInteger, default=default, server_default=text(str(default)))
