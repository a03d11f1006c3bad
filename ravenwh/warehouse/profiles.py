"""Bar profiles in ``dim__interval``: added as messages name them, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable

import attrs
import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ravenwh.domain.errors import Rejected, Unavailable
from ravenwh.domain.messages import Candle
from ravenwh.domain.profile import BarProfile, Parameters
from ravenwh.schema import DIMENSIONS

__all__ = ["StoredProfile", "other_parameters", "resolve_profiles"]

INTERVAL = next(d for d in DIMENSIONS if d.name == "interval")

LONGEST = 10_000
"""Characters that the parameters of a profile may have, as JSON."""


@attrs.frozen(kw_only=True)
class StoredProfile:
    """A profile as the mart has it."""

    interval_id: int
    parameters_hash: str | None
    parameters: Parameters | None
    is_deleted: bool


async def resolve_profiles(
    connection: AsyncConnection, wanted: Iterable[BarProfile]
) -> dict[BarProfile, StoredProfile | Rejected]:
    """The row of each profile, or why it has none.

    What is unknown is added, if its parameters are there; what was soft-deleted comes back. A name
    that has another hash is refused (PROFILE_CHANGED): bars of two ways of making them would be
    one series. Call it in a transaction that ends soon: rows it touches stay locked until then.
    """
    # those that tell their parameters first, each once
    first = sorted(wanted, key=lambda profile: profile.parameters is None)
    return {profile: await _resolved(connection, profile) for profile in dict.fromkeys(first)}


async def _resolved(connection: AsyncConnection, profile: BarProfile) -> StoredProfile | Rejected:
    stored = await _stored(connection, profile.name)
    if stored is None:
        if profile.parameters is None:
            return Rejected(
                f"profile {profile.name} is not in the mart, and the message does not tell its "
                "parameters: have its publisher send them (parameters), and replay this",
                code="UNKNOWN_PROFILE",
            )
        if problem := _problem(profile.parameters):
            return Rejected(f"profile {profile.name}: {problem}", code="BAD_PARAMETERS")
        await _add(connection, profile)
        stored = await _stored(connection, profile.name)
        if stored is None:
            raise Unavailable("dimension rows keep changing under the look-up; it is tried again")
    if stored.parameters_hash != profile.parameters_hash:
        return Rejected(
            f"profile {profile.name} is {stored.parameters_hash} in the mart, with "
            f"{_shown(stored.parameters)}, and {profile.parameters_hash} in what is to be "
            f"written, with {_shown(profile.parameters)}: give changed parameters another name",
            code="PROFILE_CHANGED",
        )
    if stored.is_deleted:
        await _bring_back(connection, profile.name)
    return stored


def other_parameters(candle: Candle, stored: Parameters) -> Rejected:
    """Why a bar is refused whose parameters are not those that its hash stands for."""
    return Rejected(
        f"profile {candle.interval}: hash {candle.parameters_hash} stands for {_shown(stored)} in "
        f"the mart, the message has it with {_shown(candle.parameters)}: have its publisher give "
        "other parameters another hash, and another name",
        code="OTHER_PARAMETERS",
    )


async def _stored(connection: AsyncConnection, name: str) -> StoredProfile | None:
    table = INTERVAL.table
    columns = (table.c[field.name] for field in attrs.fields(StoredProfile))
    rows = await connection.execute(sa.select(*columns).where(INTERVAL.label == name))
    row = rows.mappings().one_or_none()
    return None if row is None else StoredProfile(**row)


async def _add(connection: AsyncConnection, profile: BarProfile) -> None:
    """Add it, unless another writer does so now."""
    added = await connection.execute(
        insert(INTERVAL.table)
        .values(
            interval=profile.name,
            parameters=profile.parameters,
            parameters_hash=profile.parameters_hash,
            origin="feed",
        )
        .on_conflict_do_nothing()
        .returning(INTERVAL.id)
    )
    if added.one_or_none() is not None:
        _tell("DIMENSION_ADDED", profile.name)


async def _bring_back(connection: AsyncConnection, name: str) -> None:
    await connection.execute(
        sa.update(INTERVAL.table)
        .where(INTERVAL.label == name)
        .values(is_deleted=False, deleted_date=None, origin="feed")
    )
    _tell("DIMENSION_REACTIVATED", name)


def _tell(event: str, name: str) -> None:
    logger.bind(dimension="interval", name=name, origin="feed").info(event)


def _problem(parameters: Parameters) -> str | None:
    """Why the parameters cannot be stored."""
    try:
        text = json.dumps(dict(parameters), allow_nan=False)
    except ValueError:
        return "found a parameter that is NaN or infinite, allowed are finite numbers"
    if len(text) > LONGEST:
        return f"found parameters of {len(text):,} characters, allowed are {LONGEST:,}"
    texts = [*parameters, *(value for value in parameters.values() if isinstance(value, str))]
    if not all(one.isprintable() for one in texts):
        return "found a text that cannot be printed, allowed are printable ones"
    return None


def _shown(parameters: Parameters | None) -> str:
    if not parameters:
        return "no parameters"
    text = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return text if len(text) <= 500 else f"{text[:500]}..."
