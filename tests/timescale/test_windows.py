"""The windows of a refresh, on values alone: by hand, and against a model of what it does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.timescale.interval import Interval
from ravenwh.timescale.spans import Buckets, Span, merged
from ravenwh.timescale.windows import Aggregate, behind, cut, grid, plan

NOW = datetime(2024, 3, 6, 12, 34, 56, tzinfo=UTC)  # a Wednesday
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def span(start: str, end: str) -> Span:
    return Span(day(start), day(end))


def chunks(start: str, count: int, length: timedelta = 7 * DAY) -> tuple[Span, ...]:
    first = day(start)
    return tuple(Span(first + n * length, first + (n + 1) * length) for n in range(count))


def aggregate(width: str = "1 hour", **changes: object) -> Aggregate:
    values: dict[str, object] = {
        "name": width,
        "source": "fact",
        "root": "fact",
        "buckets": Buckets(Interval.parse(width)),
        "reach": 2 * DAY,
        "rest": HOUR,
        "chunks": chunks("2024-02-01", 5),
        "chunk": 7 * DAY,
        "watermark": day("2024-03-06T11:00"),
        "oldest": day("2024-02-01"),
    }
    return Aggregate(**values | changes)  # type: ignore[arg-type]  # a dict of them


def windows(one: Aggregate, *asked: Span) -> list[Span]:
    return [found for each in plan([one], NOW, {"fact": asked}) for found in each.spans]


@pytest.mark.parametrize(
    ("width", "at", "start", "after"),
    [
        ("5 minutes", "2024-03-06T12:34:56", "2024-03-06T12:30", "2024-03-06T12:35"),
        ("4 hours", "2024-03-06T12:00", "2024-03-06T12:00", "2024-03-06T16:00"),
        ("1 day", "1999-12-31T23:59", "1999-12-31", "2000-01-01"),
        ("7 days", "2024-03-06", "2024-03-04", "2024-03-11"),
        ("1 month", "2024-02-29T23:00", "2024-02-01", "2024-03-01"),
        ("3 months", "1999-11-05", "1999-10-01", "2000-01-01"),
        ("1 year", "2024-03-06", "2024-01-01", "2025-01-01"),
    ],
)
def test_the_edges_of_buckets(width: str, at: str, start: str, after: str) -> None:
    buckets = Buckets(Interval.parse(width))
    assert buckets.floor(day(at)) == day(start)
    assert buckets.after(day(start)) == day(after)
    assert buckets.ceil(day(at)) == (day(start) if at == start else day(after))


def test_a_window_is_widened_to_whole_buckets() -> None:
    asked = span("2024-02-10T03:10", "2024-02-10T03:20")
    assert windows(aggregate(), asked) == [span("2024-02-10T03:00", "2024-02-10T04:00")]
    assert windows(aggregate("7 days"), asked) == [span("2024-02-05", "2024-02-12")]


def test_a_window_ends_before_what_may_still_change() -> None:
    everything = Span()
    (found,) = windows(aggregate(watermark=None), everything)
    assert found.end == day("2024-03-06T11:00")  # an hour of rest, and whole buckets
    (found,) = windows(aggregate("1 day", rest=DAY), everything)
    assert found.end == day("2024-03-06")  # it is materialised so far: kept right, not open
    (found,) = windows(aggregate("1 day", watermark=day("2024-03-07")), everything)
    assert found.end == day("2024-03-06")  # somebody materialised the open bucket
    assert windows(aggregate(), Span(NOW)) == []


def test_what_is_gone_from_the_source_is_left_as_it_is() -> None:
    dropped = aggregate("1 day", chunks=chunks("2024-02-15T12:00", 3), oldest=day("2023-01-01"))
    (made,) = plan([dropped], NOW, {"fact": [Span()]})
    assert made.spans[0].start == day("2024-02-16")  # half of the 15th is gone
    assert made.lost == (span("2023-01-01", "2024-02-16"),)
    assert windows(dropped, span("2024-01-01", "2024-02-15")) == []
    young = attrs.evolve(dropped, oldest=day("2024-02-15"))
    assert windows(young, Span())[0].start == day("2024-02-15")  # nothing was there before


def test_rows_that_retention_will_drop_count_as_gone() -> None:
    """A chunk that a late row made again holds only that row."""
    again = (*chunks("2023-06-01", 1), *chunks("2024-02-15", 3))
    kept = aggregate(chunks=again, dropped_before=day("2024-02-20"), oldest=day("2023-01-01"))
    assert windows(kept, Span())[0].start == day("2024-02-15")
    assert windows(kept, span("2023-06-01", "2023-06-02")) == []
    all_dropped = attrs.evolve(kept, dropped_before=day("2024-03-08"))
    assert windows(all_dropped, Span()) == []


def test_parts_without_chunks_are_left_out() -> None:
    sparse = aggregate(chunks=(*chunks("2023-06-01", 1), *chunks("2024-02-15", 3)), oldest=None)
    assert windows(sparse, span("2023-01-01", "2024-02-16")) == [
        span("2023-06-01", "2023-06-08"),
        span("2024-02-15", "2024-02-16"),
    ]


def test_no_hole_is_left_below_the_watermark() -> None:
    behind_time = aggregate(watermark=day("2024-02-20"))
    asked = span("2024-03-01", "2024-03-02")
    assert windows(behind_time, asked) == [span("2024-02-20", "2024-03-02")]
    never = aggregate(watermark=None, oldest=None)
    assert windows(never, asked) == [span("2024-02-01", "2024-03-02")]


def test_a_hole_that_is_filled_is_filled_from_the_bottom_up() -> None:
    hour = aggregate()
    kept = chunks("2024-02-01", 1, 70 * DAY)
    never = aggregate("1 day", source="1 hour", chunks=kept, watermark=None, oldest=None)
    hours, days = plan([hour, never], NOW, {"fact": [span("2024-03-01", "2024-03-02")]})
    assert hours.spans == days.spans == (span("2024-02-01", "2024-03-02"),)


def test_steps_are_cut_where_others_would_cut_them() -> None:
    buckets = Buckets(Interval.parse("1 hour"))
    year, months = span("2023-01-01", "2024-01-01"), span("2023-05-01T07:00", "2023-09-01")
    whole, part = (cut(each, grid(each, 7 * DAY), buckets) for each in (year, months))
    assert len(whole) == 14
    assert {step.end for step in part[:-1]} < {step.end for step in whole}
    assert len(cut(year, grid(year, HOUR), Buckets(Interval.parse("1 month")))) == 12


def test_steps_of_one_chunk_each() -> None:
    (made,) = plan([aggregate()], NOW, {"fact": [span("2024-02-07", "2024-02-17")]})
    assert made.steps() == [span("2024-02-07", "2024-02-17")]
    assert made.steps(by_chunk=True) == [
        span("2024-02-07", "2024-02-08"),
        span("2024-02-08", "2024-02-15"),
        span("2024-02-15", "2024-02-17"),
    ]


def test_only_what_no_policy_refreshes_is_behind() -> None:
    seen = aggregate()
    noted = [span("2023-01-01", "2024-02-03"), span("2024-03-04", "2024-03-05")]
    passed = seen.passed_over(noted, NOW)
    assert passed == [span("2024-02-01", "2024-02-03"), span("2024-03-04", "2024-03-04T13:00")]
    assert behind([attrs.evolve(seen, unmade=tuple(passed))]) == {"fact": passed}
    assert behind([seen]) == {}
    sees_all = aggregate(reach=None)
    assert sees_all.passed_over(noted, NOW) == []


def test_spans_are_merged() -> None:
    one, two, three = chunks("2024-01-01", 3, DAY)
    assert merged([three, one, two]) == [Span(one.start, three.end)]
    assert merged([three, one]) == [one, three]


# A model of TimescaleDB: whole hours, of which each has at most one row; values are counts.

START = day("2024-01-01")
Ops = list[tuple[str, int]]


@attrs.define(kw_only=True)
class Rows:
    """A hypertable: what it holds by hour, in chunks; dropped by age."""

    name: str
    chunk: int
    keep: int | None
    rows: dict[int, int] = attrs.field(factory=dict)

    def sum(self, start: int, end: int) -> int:
        return sum(n for hour, n in self.rows.items() if start <= hour < end)

    def chunks(self) -> list[int]:
        return sorted({hour // self.chunk * self.chunk for hour in self.rows})

    def drop(self, now: int) -> None:
        if self.keep is not None:
            gone = {c for c in self.chunks() if c + self.chunk <= now - self.keep}
            self.rows = {
                h: n for h, n in self.rows.items() if h // self.chunk * self.chunk not in gone
            }


@attrs.define(kw_only=True)
class Rollup(Rows):
    """An aggregate: what is materialised are its rows."""

    source: Rows
    width: int
    reach: int
    rest: int

    @property
    def watermark(self) -> int | None:
        return max(self.rows) + self.width if self.rows else None

    def sum(self, start: int, end: int) -> int:
        """As a reader sees it."""
        mark = min(self.watermark or 0, end)
        shown = super().sum(start, mark) if start < mark else 0
        return shown + (self.source.sum(max(start, mark), end) if max(start, mark) < end else 0)

    def refresh(self, start: int, end: int) -> None:
        assert start % self.width == end % self.width == 0
        assert start < end
        for bucket in range(start, end, self.width):
            count = self.source.sum(bucket, bucket + self.width)
            if count:
                self.rows[bucket] = count
            else:
                self.rows.pop(bucket, None)

    def policy(self, now: int) -> None:
        start = -(-(now - self.reach) // self.width) * self.width
        end = (now - self.rest) // self.width * self.width
        if max(start, 0) < end:
            self.refresh(max(start, 0), end)

    def seen(self, now: int) -> Aggregate:
        source, keep = self.source, self.source.keep
        chunks = [Span(at(c), at(c + source.chunk)) for c in source.chunks()]
        fades = keep is not None
        root = source
        if isinstance(source, Rollup):
            root, fades = source.source, fades or source.source.keep is not None
            shown = [Span(at(min(source.rows)))] if source.rows else []
            chunks = [part for chunk in chunks for all_of in shown for part in chunk.within(all_of)]
        return Aggregate(
            name=self.name,
            source=source.name,
            root=root.name,
            buckets=Buckets(Interval(microseconds=self.width * 3_600_000_000)),
            reach=self.reach * HOUR,
            rest=self.rest * HOUR,
            chunks=tuple(chunks),
            chunk=source.chunk * HOUR,
            dropped_before=None if keep is None else at(now - keep),
            fades=fades,
            watermark=None if self.watermark is None else at(self.watermark),
            oldest=at(min(self.rows)) if self.rows else None,
        )


def at(hour: int) -> datetime:
    return START + hour * HOUR


def hour_of(time: datetime) -> int:
    return (time - START) // HOUR


@attrs.define
class Mart:
    """A fact of hours, buckets of 4 of them, and of those days, and weeks; chunks cut all of it."""

    fact: Rows
    rollups: list[Rollup]
    now: int = 24 * 10
    written: dict[int, int] = attrs.field(factory=dict)
    """All rows that ever were, dropped ones too."""

    def do(self, what: str, number: int) -> None:
        if what == "write":
            hour = number % self.now
            self.written[hour] = self.fact.rows[hour] = self.written.get(hour, 0) + 1
        elif what == "run policies":
            for rollup in self.rollups:
                rollup.policy(self.now)
        elif what == "drop":
            for table in (self.fact, *self.rollups):
                table.drop(self.now)
        else:
            self.now += number % 72

    def right(self) -> set[tuple[str, int]]:
        """The buckets that show all rows that ever were."""
        return {
            (rollup.name, bucket)
            for rollup in self.rollups
            for bucket in range(0, self.now, rollup.width)
            if rollup.sum(bucket, bucket + rollup.width)
            == sum(n for h, n in self.written.items() if bucket <= h < bucket + rollup.width)
        }


def mart(fact_keeps: int | None, fours_keep: int | None) -> Mart:
    fact = Rows(name="fact", chunk=36, keep=fact_keeps)
    fours = Rollup(name="4h", chunk=60, keep=fours_keep, source=fact, width=4, reach=48, rest=4)
    days = Rollup(name="1d", chunk=240, keep=None, source=fours, width=24, reach=72, rest=24)
    weeks = Rollup(name="1w", chunk=1680, keep=None, source=fours, width=168, reach=504, rest=168)
    return Mart(fact, [fours, days, weeks])


OPS = st.lists(
    st.tuples(
        st.sampled_from(["write"] * 6 + ["run policies", "drop", "wait"]), st.integers(0, 2000)
    ),
    max_size=60,
)


@given(
    ops=OPS,
    keeps=st.sampled_from([(None, None), (144, None), (144, 400)]),
    asked=st.one_of(st.just((0, 3000)), st.tuples(st.integers(0, 900), st.integers(1, 300))),
)
def test_a_refresh_makes_right_what_it_is_asked_for_and_nothing_worse(
    ops: Ops, keeps: tuple[int | None, int | None], asked: tuple[int, int]
) -> None:
    there = mart(*keeps)
    for what, number in ops:
        there.do(what, number)
    right = there.right()
    start, end = asked[0], asked[0] + asked[1]
    seen = [rollup.seen(there.now) for rollup in there.rollups]
    made = plan(seen, at(there.now), {"fact": [Span(at(start), at(end))]})
    firsts: dict[str, int] = {}
    for each in made:
        rollup = next(r for r in there.rollups if r.name == each.aggregate.name)
        assert each.spans == tuple(merged(each.spans))
        steps = each.steps()
        assert merged(steps) == list(each.spans)
        for step in steps:
            assert hour_of(step.end) <= there.now // rollup.width * rollup.width
            rollup.refresh(hour_of(step.start), hour_of(step.end))
        planned = [s for m in made if m.aggregate.name == each.aggregate.source for s in m.spans]
        intact = each.aggregate.intact_from(planned)
        firsts[rollup.name] = max(hour_of(intact), firsts.get(rollup.source.name, 0))
    after = there.right()
    assert right <= after
    for rollup in there.rollups:
        first = firsts.get(rollup.name)
        for bucket in range(0, there.now, rollup.width):
            is_asked = start <= bucket and bucket + rollup.width <= end
            if first is not None and is_asked and bucket >= first:
                assert (rollup.name, bucket) in after
