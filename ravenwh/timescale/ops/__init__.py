"""The operations of migrations: values that know their SQL on each engine level, and their reverse.

Importing this package registers them all as ``op.<operation>``. ``together`` says that the table or
view itself is made or dropped in the same revision: then there is nothing to move, and nothing to
take back.
"""

from ravenwh.timescale.ops.base import TimescaleOp, site_of
from ravenwh.timescale.ops.policies import (
    AddColumnstorePolicy,
    AddRefreshPolicy,
    AddRetentionPolicy,
    RemoveColumnstorePolicy,
    RemoveRefreshPolicy,
    RemoveRetentionPolicy,
)
from ravenwh.timescale.ops.relations import (
    CreateContinuousAggregate,
    CreatePlainView,
    DropContinuousAggregate,
    DropPlainView,
    SetMaterializedOnly,
)
from ravenwh.timescale.ops.tables import (
    CreateHypertable,
    DisableColumnstore,
    DistributeTable,
    DropHypertable,
    EnableColumnstore,
    SetChunkInterval,
    SetColumnstore,
    UndistributeTable,
)

__all__ = [
    "AddColumnstorePolicy",
    "AddRefreshPolicy",
    "AddRetentionPolicy",
    "CreateContinuousAggregate",
    "CreateHypertable",
    "CreatePlainView",
    "DisableColumnstore",
    "DistributeTable",
    "DropContinuousAggregate",
    "DropHypertable",
    "DropPlainView",
    "EnableColumnstore",
    "RemoveColumnstorePolicy",
    "RemoveRefreshPolicy",
    "RemoveRetentionPolicy",
    "SetChunkInterval",
    "SetColumnstore",
    "SetMaterializedOnly",
    "TimescaleOp",
    "UndistributeTable",
    "site_of",
]
