"""Operations on what is selected from: continuous aggregates and plain views."""

from __future__ import annotations

import attrs

from ravenwh.timescale import ddl
from ravenwh.timescale.errors import MigrationError
from ravenwh.timescale.level import Level
from ravenwh.timescale.ops.base import TimescaleOp, operation, sql_text, sql_text_or_none

__all__ = [
    "CreateContinuousAggregate",
    "CreatePlainView",
    "DropContinuousAggregate",
    "DropPlainView",
    "SetMaterializedOnly",
]


@attrs.frozen(kw_only=True, slots=False)
class _AggregateOp(TimescaleOp):
    definition: str | None = attrs.field(default=None, converter=sql_text_or_none)
    fallback: str | None = attrs.field(default=None, converter=sql_text_or_none)
    materialized_only: bool = False
    loss: str | None = attrs.field(default=None, eq=False)


@operation("create_continuous_aggregate")
@attrs.frozen(kw_only=True, slots=False)
class CreateContinuousAggregate(_AggregateOp):
    """An empty continuous aggregate; a view with the same rows where there is no TimescaleDB."""

    def statements(self, site: ddl.Site) -> list[str]:
        """Creation and mark. Raises MigrationError where the text for this level is unknown."""
        community = site.level is Level.COMMUNITY
        text = self.definition if community else self.fallback
        if text is None:
            part = "definition" if community else "fallback"
            raise MigrationError(
                f"create_continuous_aggregate({self.name!r}) has no {part}, which level "
                f"{site.level} needs: write it into the migration"
            )
        relation, select = site.relation(self.name, self.schema), site.body(text, self.schema)
        if community:
            return ddl.create_aggregate(relation, select, materialized_only=self.materialized_only)
        return ddl.create_view(relation, select, ddl.MARK_FALLBACK)


@operation("drop_continuous_aggregate", takes_back=CreateContinuousAggregate)
@attrs.frozen(kw_only=True, slots=False)
class DropContinuousAggregate(_AggregateOp):
    """The aggregate and what it had materialised go; ``loss`` says if that is for ever."""

    def statements(self, site: ddl.Site) -> list[str]:
        """One DROP, refused by the server while something reads it."""
        kind = "MATERIALIZED VIEW" if site.level is Level.COMMUNITY else "VIEW"
        return [f"DROP {kind} {site.relation(self.name, self.schema)}"]


@operation("set_materialized_only")
@attrs.frozen(kw_only=True, slots=False)
class SetMaterializedOnly(TimescaleOp):
    """Whether an aggregate leaves out what is not yet materialised."""

    value: bool

    def on_community(self, relation: str) -> list[str]:
        """One ALTER."""
        return [ddl.set_materialized_only(relation, self.value)]

    def reverse(self) -> SetMaterializedOnly:
        """The other way."""
        return attrs.evolve(self, value=not self.value, notes=())


@attrs.frozen(kw_only=True, slots=False)
class _ViewOp(TimescaleOp):
    definition: str = attrs.field(converter=sql_text)
    fallback: str | None = attrs.field(default=None, converter=sql_text_or_none)


@operation("create_plain_view")
@attrs.frozen(kw_only=True, slots=False)
class CreatePlainView(_ViewOp):
    """A view; ``fallback`` is its SELECT where there is no TimescaleDB, if another."""

    def statements(self, site: ddl.Site) -> list[str]:
        """Creation and mark."""
        text = self.definition
        if site.level is not Level.COMMUNITY and self.fallback is not None:
            text = self.fallback
        relation = site.relation(self.name, self.schema)
        return ddl.create_view(relation, site.body(text, self.schema))


@operation("drop_plain_view", takes_back=CreatePlainView)
@attrs.frozen(kw_only=True, slots=False)
class DropPlainView(_ViewOp):
    """A view goes."""

    def statements(self, site: ddl.Site) -> list[str]:
        """One DROP, refused by the server while something reads it."""
        return [f"DROP VIEW {site.relation(self.name, self.schema)}"]
