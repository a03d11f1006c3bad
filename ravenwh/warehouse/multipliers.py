"""By which multiplier the stored numbers of a series are read, and from when until when.

The facts hold a venue's own numbers and do not say by which symbol they came; the register does,
for their time. Where it gives two answers, the rows themselves decide whether that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

import attrs
import sqlalchemy as sa

from ravenwh.domain.series import Series
from ravenwh.schema import SYMBOLS

__all__ = ["Claim", "Contest", "Span", "claims_of", "contests", "multiplier", "spans"]


@attrs.frozen(kw_only=True)
class Claim:
    """A register row of the series: its symbol stood for it in ``[listed_at, delisted_at)``."""

    symbol: str
    multiplier: float
    listed_at: datetime | None
    delisted_at: datetime | None
    deleted_date: datetime | None

    def holds(self, start: datetime | None, end: datetime | None) -> bool:
        """Whether it claims the whole span; None is open."""
        from_start = self.listed_at is None or (start is not None and self.listed_at <= start)
        return from_start and (
            self.delisted_at is None or (end is not None and end <= self.delisted_at)
        )

    def __str__(self) -> str:
        gone = ", which is soft-deleted" if self.deleted_date is not None else ""
        return f"{self.symbol} (multiplier {self.multiplier:.12g}{gone})"


def claims_of(ids: Mapping[str, int]) -> sa.Select[*tuple[object, ...]]:
    """The query for the claims on a series: first who is in the register, then who left it last."""
    column = SYMBOLS.c
    return (
        sa.select(*(column[field.name] for field in attrs.fields(Claim)))
        .where(*(column[f"{name}_id"] == ids[name] for name in ("coin", "quote", "exchange")))
        .order_by(
            column.deleted_date.desc().nulls_first(),
            column.delisted_at.desc().nulls_first(),
            column.symbol_id.desc(),
        )
    )


@attrs.frozen(kw_only=True)
class Span:
    """A part of time, half-open, and who claims it, the preferred one first; None is open."""

    start: datetime | None
    end: datetime | None
    claims: tuple[Claim, ...]

    def covers(self, fact: sa.Table) -> sa.ColumnElement[bool]:
        """Whether the open_time of a row of the fact lies in it."""
        at = fact.c.open_time
        return sa.and_(
            sa.true() if self.start is None else at >= self.start,
            sa.true() if self.end is None else at < self.end,
        )


def spans(claims: Sequence[Claim]) -> list[Span]:
    """All of time, cut where a claim begins or ends; what nobody claims may be anybody's."""
    cuts = {at for claim in claims for at in (claim.listed_at, claim.delisted_at)} - {None}
    edges = [None, *sorted(at for at in cuts if at is not None), None]
    return [
        Span(
            start=start,
            end=end,
            claims=tuple(c for c in claims if c.holds(start, end)) or tuple(claims),
        )
        for start, end in pairwise(edges)
    ]


def multiplier(parts: Sequence[Span], fact: sa.Table) -> sa.ColumnElement[float] | None:
    """The multiplier of a row of the fact by its open_time; None where it is 1 throughout."""
    values = [part.claims[0].multiplier for part in parts if part.claims]
    if set(values) <= {1.0}:
        return None
    if len(set(values)) == 1:
        return sa.literal(values[0], sa.Double())
    whens: list[tuple[sa.ColumnElement[bool], sa.ColumnElement[float]]] = [
        (part.covers(fact), sa.literal(value, sa.Double()))
        for part, value in zip(parts, values, strict=True)
    ]
    return sa.case(*whens)


@attrs.frozen(kw_only=True)
class Contest:
    """Two claims on one span with different multipliers."""

    span: Span
    preferred: Claim
    other: Claim

    def rows(self, fact: sa.Table) -> sa.ColumnElement[bool]:
        """Which rows may be the other's: those that were there before it was soft-deleted.

        What came later cannot be its own, as it had left the register.
        """
        if self.other.deleted_date is None:
            return self.span.covers(fact)
        return sa.and_(self.span.covers(fact), fact.c.ingested_at <= self.other.deleted_date)

    def told(self, series: Series) -> str:
        """What is wrong, and what to do."""
        name = f"{series.coin}/{series.quote}"
        older = f'"{series.coin}-OLD/{series.quote}" = {{ {series.exchange} = {{ '
        newer = f'"{name}" = {{ {series.exchange} = {{ '
        return (
            f"{name} on {series.exchange}: {self.preferred} and {self.other} both claim the rows "
            f"{self._when()}, so it is not known by which multiplier they are to be read. Read "
            "with raw=True for the numbers as they are stored; or say in routing.symbol_map when "
            f"each of the two held: {older}{_entry(series.coin, self.other)}, delisted_at = <when "
            f"it changed> }} }} and {newer}{_entry(series.coin, self.preferred)}, listed_at = "
            "<when it changed> } }; then run python -m runners.init"
        )

    def _when(self) -> str:
        start, end = self.span.start, self.span.end
        since = f"from {start.isoformat()}" if start is not None else "from the first"
        return since + (f" until {end.isoformat()}" if end is not None else " on")


def _entry(coin: str, claim: Claim) -> str:
    return f'coin = "{coin}", symbol = "{claim.symbol}", multiplier = {claim.multiplier:.12g}'


def contests(parts: Sequence[Span]) -> Iterator[Contest]:
    """Every doubt there is, whether or not there are rows that it concerns."""
    for part in parts:
        for index, preferred in enumerate(part.claims):
            for other in part.claims[index + 1 :]:
                if other.multiplier != preferred.multiplier:
                    yield Contest(span=part, preferred=preferred, other=other)
