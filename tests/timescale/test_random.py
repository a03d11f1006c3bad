"""Any declarations: migrated, clean; changed into any others, clean; taken back, as before."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravenwh.timescale import Columnstore, ContinuousAggregate, Refresh, View
from ravenwh.timescale.interval import Interval
from tests.servers import PgServer
from tests.timescale.conftest import community_place
from tests.timescale.models import IDS, hypertable, market, rollup
from tests.timescale.project import Place, Project
from tests.timescale.state import catalog

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
    hyper: bool
    volume: str
    rollups: tuple[Rollup, ...]

    def metadata(self) -> sa.MetaData:
        store = Columnstore(segmentby=IDS, orderby=self.orderby, after=self.after)
        fact = hypertable(
            chunk=self.chunk, columnstore=store if self.stored else None, retention=self.retention
        )
        made = market(
            fact=fact if self.hyper else None,
            without=("agg__kline_5m", "agg__kline_1h"),
            volume={"double": sa.Double(), "numeric": sa.Numeric(38, 8)}[self.volume],
        )
        sources = [(made.tables["market.fact__kline"], Interval(microseconds=1))]
        for each in self.rollups if self.hyper else ():
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
    hyper=st.sampled_from([True, True, True, False]),
    volume=st.sampled_from(["double", "numeric"]),
    rollups=st.lists(st.sampled_from(list(WIDTHS)), unique=True, max_size=4)
    .map(lambda names: sorted(names, key=list(WIDTHS).index))
    .flatmap(lambda names: st.tuples(*map(rollups, names))),
)


@contextmanager
def place_of(level: str, pg_server: PgServer) -> Iterator[Place]:
    if level == "community":
        with community_place() as place:
            yield place
    else:
        with pg_server.fresh_database() as name:
            yield Place(url=pg_server.url(name), level=level)


@pytest.mark.parametrize("level", ["community", "none"])
def test_any_declarations_and_any_change(level: str, pg_server: PgServer) -> None:
    @settings(
        max_examples=6,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(first=stars, second=stars)
    def cycle(first: Star, second: Star) -> None:
        with (
            place_of(level, pg_server) as place,
            tempfile.TemporaryDirectory() as folder,
        ):
            project = Project(folder=Path(folder), place=place)
            start, final = first.metadata(), second.metadata()
            project.start(start)
            project.check(start)
            before = catalog(place)
            project.revision(final)
            project.upgrade(final)
            project.check(final)
            project.downgrade(start)
            project.forget()
            project.check(start)
            assert catalog(place) == before
            project.downgrade(start, "base")

    cycle()
