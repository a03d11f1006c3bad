"""What TimescaleDB does by itself: policies shown and written, and a mart brought over to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.app.database import engine_of
from ravenwh.app.preflight import require_head
from ravenwh.domain.errors import Refused
from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.schema import HOME_SCHEMA, Base
from ravenwh.timescale import TimescaleError, apply
from ravenwh.timescale.status import PolicyState, policy_states, without_policies
from ravenwh.warehouse.errors import state_of, translate, translated
from ravenwh.warehouse.preflight import Check

__all__ = ["PolicyReport", "adopt", "apply_policies", "policy_check", "policy_report"]

T = TypeVar("T")

NO_RIGHT = "42501"
APPLY = "ravenwh policies apply"


@attrs.frozen(kw_only=True)
class PolicyReport:
    """The policies of a mart; ``missing`` says why there can be none, where that is so."""

    missing: str | None
    states: list[PolicyState]

    @property
    def differing(self) -> list[PolicyState]:
        """Those that are not as the models and the settings say."""
        return [state for state in self.states if state.differs]


async def policy_report(settings: Settings) -> PolicyReport:
    """Every policy: as declared, as the settings want it, and in the database.

    Raises SchemaMismatch where the mart is at another revision, Refused, Unavailable.
    """
    return await _on_mart(settings, lambda connection: _report(connection, settings))


async def apply_policies(settings: Settings) -> PolicyReport:
    """Write what differs; the report tells how it was before. Raises as :func:`policy_report`."""

    def write(connection: sa.Connection) -> PolicyReport:
        before = _report(connection, settings)
        connection.rollback()
        if before.differing:
            apply.apply_policies(connection, **_wanted(settings))
        return before

    return await _on_mart(settings, write)


async def adopt(settings: Settings, tell: Callable[[str], None]) -> list[str]:
    """Bring a mart that was migrated without TimescaleDB over to it: what was done, a line each.

    ``tell`` gets each line before the work that it is about. Nothing was done where the mart is
    made with TimescaleDB already. Raises Refused, and as :func:`policy_report`.
    """
    stated = settings.timescale.engine
    if stated not in ("auto", "community"):
        raise Refused(
            f'timescale.engine says "{stated}", and what is adopted is at level community: set it '
            'to "auto" or "community" first'
        )
    return await _on_mart(
        settings, lambda connection: apply.adopt(connection, tell=tell, **_wanted(settings))
    )


def policy_check(settings: Settings) -> Check:
    """A finding of the doctor: whether the policies are as the models and the settings say."""

    async def check(connection: AsyncConnection) -> Finding:
        # the comparison names the schema itself
        await connection.execution_options(schema_translate_map=None)
        report = await connection.run_sync(lambda sync: _report(sync, settings))
        if report.missing is not None:
            found = f"none, there is no level community here: {report.missing}"
            return Finding(check="policies", ok=True, found=found)
        if not report.differing:
            return Finding(check="policies", ok=True, found="as the models and the settings say")
        return Finding(
            check="policies",
            ok=False,
            found="; ".join(state.change for state in report.differing),
            remedy=APPLY,
            required=False,
        )

    return check


def _wanted(settings: Settings) -> dict[str, Any]:
    """What the comparison is with."""
    return {
        "metadata": Base.metadata,
        "schema": settings.timescale.schema,
        "policies": settings.timescale.policy_times,
    }


def _report(connection: sa.Connection, settings: Settings) -> PolicyReport:
    return PolicyReport(
        missing=without_policies(connection, schema=settings.timescale.schema),
        states=policy_states(connection, **_wanted(settings)),
    )


async def _on_mart(settings: Settings, work: Callable[[sa.Connection], T]) -> T:
    """Run on a connection to the migrated mart."""
    async with engine_of(settings, schema=HOME_SCHEMA, pooled=False, statement_s=None) as engine:
        await require_head(settings, engine)
        with _told():
            async with engine.connect() as connection:
                return await connection.run_sync(work)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise our errors for those of timescale and of the database."""
    try:
        with translated():
            try:
                yield
            except DBAPIError as error:
                if state_of(error) != NO_RIGHT:
                    raise
                raise Refused(
                    f"{translate(error)}; policies are written, and a mart is adopted, by the role "
                    "that owns the tables"
                ) from error
    except TimescaleError as error:
        raise Refused(str(error)) from error
