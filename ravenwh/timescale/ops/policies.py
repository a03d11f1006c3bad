"""Operations on policies, of hypertables and of aggregates; a change is a removal and an addition.

TimescaleDB's ``if_not_exists`` is never used: it would keep the old times and only warn.
"""

from __future__ import annotations

import attrs

from ravenwh.timescale import ddl
from ravenwh.timescale.ops.base import TimescaleOp, operation

__all__ = [
    "AddColumnstorePolicy",
    "AddRefreshPolicy",
    "AddRetentionPolicy",
    "RemoveColumnstorePolicy",
    "RemoveRefreshPolicy",
    "RemoveRetentionPolicy",
]


@attrs.frozen(kw_only=True, slots=False)
class _ColumnstorePolicyOp(TimescaleOp):
    after: str
    schedule: str | None = None


@operation("add_columnstore_policy")
@attrs.frozen(kw_only=True, slots=False)
class AddColumnstorePolicy(_ColumnstorePolicyOp):
    """A job converts chunks older than ``after``."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [ddl.add_columnstore_policy(relation, after=self.after, schedule=self.schedule)]


@operation("remove_columnstore_policy", takes_back=AddColumnstorePolicy)
@attrs.frozen(kw_only=True, slots=False)
class RemoveColumnstorePolicy(_ColumnstorePolicyOp):
    """No job converts chunks any more; what is converted stays so."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [ddl.remove_columnstore_policy(relation)]


@attrs.frozen(kw_only=True, slots=False)
class _RetentionPolicyOp(TimescaleOp):
    drop_after: str
    schedule: str | None = None


@operation("add_retention_policy")
@attrs.frozen(kw_only=True, slots=False)
class AddRetentionPolicy(_RetentionPolicyOp):
    """A job drops chunks older than ``drop_after``."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [
            ddl.add_retention_policy(relation, drop_after=self.drop_after, schedule=self.schedule)
        ]


@operation("remove_retention_policy", takes_back=AddRetentionPolicy)
@attrs.frozen(kw_only=True, slots=False)
class RemoveRetentionPolicy(_RetentionPolicyOp):
    """No job drops chunks any more; what was dropped stays so."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [ddl.remove_retention_policy(relation)]


@attrs.frozen(kw_only=True, slots=False)
class _RefreshPolicyOp(TimescaleOp):
    start: str | None
    end: str | None
    schedule: str


@operation("add_refresh_policy")
@attrs.frozen(kw_only=True, slots=False)
class AddRefreshPolicy(_RefreshPolicyOp):
    """A job keeps the aggregate fresh from now - start to now - end."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [
            ddl.add_refresh_policy(relation, start=self.start, end=self.end, schedule=self.schedule)
        ]


@operation("remove_refresh_policy", takes_back=AddRefreshPolicy)
@attrs.frozen(kw_only=True, slots=False)
class RemoveRefreshPolicy(_RefreshPolicyOp):
    """No job keeps the aggregate fresh; all its refresh policies go."""

    def on_community(self, relation: str) -> list[str]:
        """One call."""
        return [ddl.remove_refresh_policy(relation)]
