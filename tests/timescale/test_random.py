"""Any declarations: migrated, clean; changed into any others, clean; taken back, as before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ravenwh.timescale import Columnstore, ContinuousAggregate, Refresh, View
from ravenwh.timescale.interval import Interval
from tests.servers import PgServer
from tests.timescale.models import IDS, hypertable, market, rollup
from tests.timescale.project import Place, Project
from tests.timescale.state import catalog, fill

WIDTHS = {
    "5m": ("5 minutes", "2 hours"),
    "15m": ("15 minutes", "4 hours"),
    "1h": ("1 hour", "1 day"),
    "4h": ("4 hours", "3 days"),
    "1d": ("1 day", "7 days"),
    "1w": ("7 days", "28 days"),
}


@attrs.frozen(kw_only=True)
class Rollup:
    """One random aggregate; ``source`` picks among what its buckets can be built from."""

    name: str
    source: int
    extra: bool
    twice: bool
    refreshed: bool
    materialized_only: bool
    after: str | None
    retention: str | None
    view: bool


@attrs.frozen(kw_only=True)
class Star:
    """One random set of declarations."""

    chunk: str
    orderby: str
    stored: bool
    after: str | None
    retention: str | None
    fact: str
    volume: str
    rollups: tuple[Rollup, ...]

    def metadata(self) -> sa.MetaData:
        store = Columnstore(segmentby=IDS, orderby=self.orderby, after=self.after)
        fact = hypertable(
            chunk=self.chunk, columnstore=store if self.stored else None, retention=self.retention
        )
        made = market(
            fact=fact if self.fact == "hypertable" else None,
            with_fact=self.fact != "none",
            without=("agg__kline_5m", "agg__kline_1h"),
            volume={"double": sa.Double(), "numeric": sa.Numeric(38, 8)}[self.volume],
        )
        if self.fact != "hypertable":
            return made
        sources = [(made.tables["market.fact__kline"], Interval(microseconds=1))]
        for each in self.rollups:
            width = Interval.parse(WIDTHS[each.name][0])
            fitting = [table for table, child in sources if width.can_be_built_from(child)]
            sources.append((self.add(made, each, fitting[each.source % len(fitting)]), width))
        return made

    def add(self, metadata: sa.MetaData, each: Rollup, source: sa.Table) -> sa.Table:
        width, start = WIDTHS[each.name]
        store = Columnstore(segmentby=IDS, orderby="open_time DESC", after=each.after)
        name = f"agg__kline_{each.name}"
        aggregate = ContinuousAggregate(
            name,
            rollup(source, width, extra=each.extra),
            metadata=metadata,
            refresh=Refresh(start, "5 minutes", "1 hour" if each.twice else "30 minutes")
            if each.refreshed
            else None,
            materialized_only=each.materialized_only and each.refreshed,
            columnstore=store if each.after and each.refreshed else None,
            retention=each.retention,
        )
        if each.view:
            select = sa.select(aggregate.table).where(aggregate.c.volume > 0)
            View(f"kline_{each.name}", select, metadata=metadata)
        return aggregate.table


def rollups(name: str) -> st.SearchStrategy[Rollup]:
    return st.builds(
        Rollup,
        name=st.just(name),
        source=st.integers(0, 5),
        extra=st.booleans(),
        twice=st.booleans(),
        refreshed=st.sampled_from([True, True, False]),
        materialized_only=st.booleans(),
        after=st.sampled_from([None, "60 days", "90 days"]),
        retention=st.sampled_from([None, None, "900 days"]),
        view=st.booleans(),
    )


stars = st.builds(
    Star,
    chunk=st.sampled_from(["1 day", "7 days"]),
    orderby=st.sampled_from(["open_time DESC", "open_time"]),
    stored=st.booleans(),
    after=st.sampled_from([None, "14 days", "30 days"]),
    retention=st.sampled_from([None, "400 days", "500 days"]),
    fact=st.sampled_from(["hypertable"] * 4 + ["table", "none"]),
    volume=st.sampled_from(["double", "numeric"]),
    rollups=st.lists(st.sampled_from(list(WIDTHS)), unique=True, max_size=4)
    .map(lambda names: sorted(names, key=list(WIDTHS).index))
    .flatmap(lambda names: st.tuples(*map(rollups, names))),
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Star, Star]:
    """A set of declarations and another one, which has kept anything from nothing to all of it."""
    first, other = draw(stars), draw(stars)
    names = [field.name for field in attrs.fields(Star)]
    kept = {name: getattr(first, name) for name in draw(st.sets(st.sampled_from(names)))}
    before = {each.name: each for each in first.rollups}
    rollups = (
        before.get(each.name, each) if draw(st.booleans()) else each for each in other.rollups
    )
    return first, attrs.evolve(other, **{"rollups": tuple(rollups)} | kept)


EXAMPLES = {"embedded": 6, "wasm": 4, "native": 6}

Empty = Callable[[], AbstractContextManager[Place]]


@pytest.fixture(params=EXAMPLES)
def empty(request: pytest.FixtureRequest) -> tuple[Empty, int]:
    """Gives an empty place on each engine in turn, as often as asked; and how often that may be."""

    def fixture(name: str) -> Any:
        return request.getfixturevalue(name)

    @contextmanager
    def embedded() -> Iterator[Place]:
        server: PgServer = fixture("pg_server")
        with server.fresh_database() as name:
            yield Place(url=server.url(name), level="none")

    @contextmanager
    def wasm() -> Iterator[Place]:
        with fixture("wasm_server").emptied() as url:
            yield Place(url=url, level="community")

    @contextmanager
    def native() -> Iterator[Place]:
        with fixture("native_server").fresh_database() as url:
            place = Place(url=url, level="community")
            place.stop_jobs()
            yield place

    found = {"embedded": embedded, "wasm": wasm, "native": native}[request.param]
    return found, EXAMPLES[request.param]


def test_any_declarations_and_any_change(empty: tuple[Empty, int]) -> None:
    """Also with rows, some of them compressed; and up again from nothing gives the same."""
    fresh, examples = empty

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # an example takes a second: a smaller one would take minutes
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(stars=changes(), filled=st.booleans())
    def cycle(stars: tuple[Star, Star], filled: bool) -> None:
        first, second = stars
        with fresh() as place, tempfile.TemporaryDirectory() as folder:
            project = Project(folder=Path(folder), place=place)
            start, final = first.metadata(), second.metadata()
            project.start(start)
            project.check(start)
            if filled and "none" not in (first.fact, second.fact):
                hyper = place.level == "community" and first.fact == "hypertable"
                fill(place, compressed=hyper and first.stored)
            before = catalog(place)

            project.revision(final)
            project.upgrade(final)
            project.check(final)
            after = catalog(place)
            project.downgrade(start)
            assert catalog(place) == before

            project.downgrade(start, "base")
            assert not any(catalog(place).values())
            project.upgrade(final)
            assert without_rows(catalog(place)) == without_rows(after)
            project.downgrade(start)
            project.forget()
            project.check(start)

    cycle()


def without_rows(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "rows"}
