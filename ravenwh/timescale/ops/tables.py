"""Operations on tables: hypertables, how their chunks are stored, and Citus."""

from __future__ import annotations

import attrs

from ravenwh.timescale import ddl
from ravenwh.timescale.level import Level
from ravenwh.timescale.ops.base import TimescaleOp, column_names, operation

__all__ = [
    "CreateHypertable",
    "DisableColumnstore",
    "DistributeTable",
    "DropHypertable",
    "EnableColumnstore",
    "SetChunkInterval",
    "SetColumnstore",
    "UndistributeTable",
]


@attrs.frozen(kw_only=True, slots=False)
class _HypertableOp(TimescaleOp):
    time_column: str
    chunk_interval: str
    together: bool = False


@operation("create_hypertable")
@attrs.frozen(kw_only=True, slots=False)
class CreateHypertable(_HypertableOp):
    """A table becomes a hypertable; rows that it has move into chunks, under a lock."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        made = ddl.create_hypertable(
            relation,
            time_column=self.time_column,
            chunk=self.chunk_interval,
            migrate_data=not self.together,
        )
        return [made]


@operation("drop_hypertable", takes_back=CreateHypertable)
@attrs.frozen(kw_only=True, slots=False)
class DropHypertable(_HypertableOp):
    """A hypertable becomes a table again, by a copy of its rows; nothing if it is dropped next."""

    def on_community(self, relation: str) -> list[str]:
        """One block."""
        return [] if self.together else [ddl.table_again(self.name, relation)]


@operation("set_chunk_interval")
@attrs.frozen(kw_only=True, slots=False)
class SetChunkInterval(TimescaleOp):
    """Chunks to come get another interval."""

    interval: str
    old: str

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [ddl.set_chunk_interval(relation, self.interval)]

    def reverse(self) -> SetChunkInterval:
        """Back to the old interval."""
        return attrs.evolve(self, interval=self.old, old=self.interval, notes=())


@attrs.frozen(kw_only=True, slots=False)
class _ColumnstoreOp(TimescaleOp):
    segmentby: tuple[str, ...] = attrs.field(converter=column_names)
    orderby: str
    aggregate: bool = False
    together: bool = False


@operation("enable_columnstore")
@attrs.frozen(kw_only=True, slots=False)
class EnableColumnstore(_ColumnstoreOp):
    """Chunks may be stored by column."""

    def on_community(self, relation: str) -> list[str]:
        """One ALTER."""
        made = ddl.set_columnstore(
            relation, segmentby=self.segmentby, orderby=self.orderby, aggregate=self.aggregate
        )
        return [made]


@operation("disable_columnstore", takes_back=EnableColumnstore)
@attrs.frozen(kw_only=True, slots=False)
class DisableColumnstore(_ColumnstoreOp):
    """All chunks go back to rows; nothing if the table or aggregate is dropped next."""

    def on_community(self, relation: str) -> list[str]:
        """A loop over the chunks, then one ALTER."""
        if self.together:
            return []
        return [
            ddl.rows_again(relation),
            ddl.disable_columnstore(relation, aggregate=self.aggregate),
        ]


@operation("set_columnstore")
@attrs.frozen(kw_only=True, slots=False)
class SetColumnstore(TimescaleOp):
    """Chunks to come are segmented or ordered otherwise."""

    segmentby: tuple[str, ...] = attrs.field(converter=column_names)
    orderby: str
    old_segmentby: tuple[str, ...] = attrs.field(converter=column_names)
    old_orderby: str
    aggregate: bool = False

    def on_community(self, relation: str) -> list[str]:
        """One ALTER."""
        made = ddl.set_columnstore(
            relation, segmentby=self.segmentby, orderby=self.orderby, aggregate=self.aggregate
        )
        return [made]

    def reverse(self) -> SetColumnstore:
        """Back to the old ones."""
        return attrs.evolve(
            self,
            segmentby=self.old_segmentby,
            orderby=self.old_orderby,
            old_segmentby=self.segmentby,
            old_orderby=self.orderby,
            notes=(),
        )


@attrs.frozen(kw_only=True, slots=False)
class _DistributionOp(TimescaleOp):
    column: str | None = None
    together: bool = False


@operation("distribute_table")
@attrs.frozen(kw_only=True, slots=False)
class DistributeTable(_DistributionOp):
    """On Citus: over the nodes by ``column``, or without one whole on every node."""

    def statements(self, site: ddl.Site) -> list[str]:
        """One call."""
        if site.level is not Level.CITUS:
            return []
        return [ddl.distribute(site.relation(self.name, self.schema), self.column)]


@operation("undistribute_table", takes_back=DistributeTable)
@attrs.frozen(kw_only=True, slots=False)
class UndistributeTable(_DistributionOp):
    """On Citus: back to a table of the coordinator; nothing if it is dropped next."""

    def statements(self, site: ddl.Site) -> list[str]:
        """One call."""
        if site.level is not Level.CITUS or self.together:
            return []
        return [ddl.undistribute(site.relation(self.name, self.schema))]
