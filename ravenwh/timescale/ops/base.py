"""What all operations have, and how Alembic runs one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs
import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations

from ravenwh.timescale.ddl import Site
from ravenwh.timescale.errors import LevelError
from ravenwh.timescale.level import Level, inspect_engine
from ravenwh.timescale.plain import collapse

__all__ = ["TimescaleOp", "column_names", "operation", "site_of", "sql_text", "sql_text_or_none"]

_Op = TypeVar("_Op", bound="TimescaleOp")


def sql_text(text: str) -> str:
    """One line, so that how a migration file breaks and indents a SELECT does not matter."""
    return collapse(text)


def sql_text_or_none(text: str | None) -> str | None:
    """The same, or nothing."""
    return None if text is None else collapse(text)


def column_names(columns: Any) -> tuple[str, ...]:
    """One name or many, as a tuple."""
    return (columns,) if isinstance(columns, str) else tuple(columns)


@attrs.frozen(kw_only=True, slots=False)  # Alembic keeps a cache in each operation
class TimescaleOp(MigrateOperation):
    """The table or view, and notes for the reader of the migration.

    ``schema`` is the name in the migration, which may be called otherwise in the database.
    """

    operation: ClassVar[str]
    reversed_by: ClassVar[type[TimescaleOp]]

    name: str
    schema: str | None = None
    notes: tuple[str, ...] = attrs.field(default=(), eq=False)

    def statements(self, site: Site) -> list[str]:
        """The SQL on this engine level; none where the level has no such thing."""
        if site.level is not Level.COMMUNITY:
            return []
        return self.on_community(site.relation(self.name, self.schema))

    def on_community(self, relation: str) -> list[str]:
        """The SQL on TimescaleDB, for the operations that exist only there."""
        raise NotImplementedError

    def reverse(self) -> TimescaleOp:
        """The operation that takes this one back; its reverse is this one again."""
        fields = {f.name for f in attrs.fields(type(self))} - {"notes"}
        return self.reversed_by(**{name: getattr(self, name) for name in fields})

    def arguments(self) -> dict[str, Any]:
        """The fields beyond name and schema that are not as by default."""
        fields = [f for f in attrs.fields(type(self)) if f.eq and f.name not in ("name", "schema")]
        return {f.name: v for f in fields if (v := getattr(self, f.name)) != f.default}

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """What ``alembic check`` prints."""
        return (self.operation, self.schema, self.name, tuple(sorted(self.arguments().items())))

    @classmethod
    def run(
        cls, operations: Operations, name: str, *, schema: str | None = None, **arguments: Any
    ) -> None:
        """What a migration calls as ``op.<operation>(name, ...)``."""
        operations.invoke(cls(name=name, schema=schema, **arguments))


def operation(
    name: str, *, takes_back: type[TimescaleOp] | None = None
) -> Callable[[type[_Op]], type[_Op]]:
    """Makes a class the operation ``op.<name>`` of migrations, and of two each other's reverse."""

    def decorate(cls: type[_Op]) -> type[_Op]:
        cls.operation = name
        if takes_back is not None:
            cls.reversed_by, takes_back.reversed_by = takes_back, cls
        return Operations.register_operation(name, "run")(cls)

    return decorate


def site_of(operations: Operations) -> Site:
    """Where a migration's statements go: what env.py said, else what the server is."""
    context = operations.migration_context
    given: Site | None = context.opts.get("timescale_site")
    if given is not None:
        return given
    if context.as_sql or not isinstance(context.connection, sa.Connection):
        raise LevelError("--sql cannot ask the server: let env.py call ravenwh.timescale.env.run")
    schemas = context.connection.get_execution_options().get("schema_translate_map") or {}
    site = Site(level=inspect_engine(context.connection).level, schemas=dict(schemas))
    context.opts["timescale_site"] = site
    return site


@Operations.implementation_for(TimescaleOp)
def implement(operations: Operations, op: TimescaleOp) -> None:
    """Run, or with --sql print, the statements of one operation."""
    for statement in op.statements(site_of(operations)):
        operations.execute(as_it_is(statement))


def as_it_is(statement: str) -> sa.Executable:
    """A statement that nobody looks into: text() would see parameters in ``12:30`` and ``::``."""
    return sa.DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]  # SQLAlchemy's
