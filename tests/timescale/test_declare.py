"""Declarations: what is kept of them, and every rule with the error that names it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from ravenwh.timescale import (
    Columnstore,
    ContinuousAggregate,
    DeclarationError,
    Distributed,
    Hypertable,
    Refresh,
    View,
    copy_metadata,
    declarations_of,
    policy_errors,
    time_bucket,
    with_policies,
)
from ravenwh.timescale.interval import Interval, interval_text, same_interval
from ravenwh.timescale.plain import bucket_width, collapse, plain_sql
from tests.timescale.models import IDS, hypertable, market, rollup

HOUR = Refresh("1 day", "1 hour", "15 minutes")


def table(*items: Any, nullable: bool = False, time: Any = None) -> sa.Table:
    return sa.Table(
        "fact",
        sa.MetaData(schema="mart"),
        sa.Column("coin_id", sa.Integer, primary_key=True),
        sa.Column("quote_id", sa.Integer, primary_key=True),
        sa.Column(
            "open_time",
            time or sa.TIMESTAMP(timezone=True),
            primary_key=not nullable,
            nullable=nullable,
        ),
        sa.Column("volume", sa.Double),
        *items,
    )


def store(**changes: Any) -> Columnstore:
    values: dict[str, Any] = {"segmentby": IDS, "orderby": "open_time DESC", "after": "14 days"}
    return Columnstore(**values | changes)


@pytest.mark.parametrize(
    ("items", "options", "rule"),
    [
        ([Hypertable("time")], {}, "there is no column 'time'"),
        ([Hypertable("open_time")], {"nullable": True}, "must be NOT NULL"),
        ([Hypertable("open_time")], {"time": sa.DateTime()}, "must be timestamp with time zone"),
        (
            [Hypertable("open_time"), sa.UniqueConstraint("coin_id")],
            {},
            r"must be in every unique key, not so: \['coin_id'\]",
        ),
        (
            [Hypertable("open_time"), sa.Index("ux", "volume", unique=True)],
            {},
            r"must be in every unique key, not so: \['volume'\]",
        ),
        ([Hypertable("open_time", chunk="0 days")], {}, "must be longer than nothing"),
        (
            [Hypertable("open_time", columnstore=store(segmentby="coin_id"))],
            {},
            "segmentby must cover the key without 'open_time'; missing: quote_id",
        ),
        (
            [Hypertable("open_time", columnstore=store(segmentby=(*IDS, "other")))],
            {},
            r"columns that are not there: \['other'\]",
        ),
        (
            [Hypertable("open_time", columnstore=store(segmentby=(*IDS, "open_time")))],
            {},
            "segmentby holds the time column",
        ),
        (
            [Hypertable("open_time", columnstore=store(orderby="volume"))],
            {},
            "orderby must name the time column",
        ),
        (
            [Hypertable("open_time", columnstore=store(after=None, schedule="1 day"))],
            {},
            "schedule without `after` is no policy",
        ),
        (
            [Hypertable("open_time", columnstore=store(), retention="14 days")],
            {},
            "must be longer than the columnstore's after",
        ),
    ],
)
def test_rules_of_hypertables(items: list[Any], options: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeclarationError, match=rule) as caught:
        table(*items, **options)
    assert str(caught.value).startswith("Hypertable 'fact': ")


def test_rules_of_distribution() -> None:
    with pytest.raises(DeclarationError, match="Distributed 'fact': there is no column 'x'"):
        table(Distributed("x"))
    with pytest.raises(DeclarationError, match="must be in every unique key"):
        table(Distributed("volume"))


def aggregate(**changes: Any) -> None:
    """A 1h rollup beside that of the models, and a 1d rollup of it."""
    fact = hypertable(retention=changes.pop("fact_retention", None))
    metadata = market(fact=fact, without=("agg__kline_1d", "kline_1h", "agg__kline_5m"))
    width = changes.pop("width", "1 day")
    select = changes.pop("select", None)
    source = metadata.tables["market.agg__kline_1h"]
    if select is None:
        select = rollup(source, width)
    ContinuousAggregate(
        changes.pop("name", "agg"),
        select(metadata) if callable(select) else select,
        metadata=metadata,
        **{"refresh": Refresh("7 days", "1 hour", "1 hour")} | changes,
    )


def no_bucket(metadata: sa.MetaData) -> Any:
    k = metadata.tables["market.fact__kline"]
    return sa.select(k.c.coin_id, sa.func.max(k.c.high).label("high")).group_by(k.c.coin_id)


def bare_bucket(metadata: sa.MetaData) -> Any:
    k = metadata.tables["market.fact__kline"]
    bucket = time_bucket("1 hour", k.c.open_time)
    return sa.select(sa.func.date(bucket).label("day")).group_by(bucket)


def with_zone(metadata: sa.MetaData) -> Any:
    k = metadata.tables["market.fact__kline"]
    width = sa.literal_column("INTERVAL '1 day'")
    bucket = sa.func.time_bucket(width, k.c.open_time, "Asia/Seoul").label("open_time")
    return sa.select(bucket, sa.func.max(k.c.high).label("high")).group_by(bucket)


def no_source(metadata: sa.MetaData) -> Any:
    k = metadata.tables["market.dim__coin"]
    bucket = time_bucket("1 hour", sa.cast(k.c.coin, sa.TIMESTAMP(timezone=True))).label("t")
    return sa.select(bucket).group_by(bucket)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"width": "90 minutes"}, r"must be a multiple of that of 'agg__kline_1h' \(1 hour\)"),
        ({"width": "5 minutes"}, "must be a multiple"),
        (
            {"refresh": Refresh("2 days", "1 hour", "1 hour")},
            "must span two buckets of 1 day",
        ),
        ({"refresh": Refresh("7 days", "0 hours", "1 hour")}, "end must be longer than nothing"),
        (
            {"refresh": Refresh("7 days", "1 hour", "0 seconds")},
            "schedule must be longer than nothing",
        ),
        ({"refresh": None, "materialized_only": True}, "shows nothing, ever"),
        ({"refresh": None, "columnstore": store()}, "columnstore policy needs a refresh policy"),
        (
            {"columnstore": store(after="7 days")},
            r"after \(7 days\) must be longer than the refresh start \(7 days\)",
        ),
        ({"columnstore": store(segmentby="coin_id")}, "missing: quote_id"),
        ({"retention": "7 days"}, "longer than its own refresh start"),
        ({"select": no_bucket}, "must group by one time_bucket"),
        ({"select": bare_bucket}, "must be the time_bucket, labelled"),
        ({"select": with_zone}, "has no plain form: give fallback="),
        ({"select": no_source}, "must read exactly one declared hypertable or aggregate"),
        (
            {
                "select": lambda m: rollup(m.tables["market.fact__kline"], "1 hour"),
                "refresh": Refresh(None, "1 hour", "1 hour"),
                "fact_retention": "2 years",
            },
            "a refresh would erase what was dropped there",
        ),
        (
            {
                "select": lambda m: rollup(m.tables["market.fact__kline"], "1 hour"),
                "refresh": Refresh("31 days", "1 hour", "1 hour"),
                "fact_retention": "1 month",
            },
            r"retention of 'fact__kline' \(1 month\) must be longer than its refresh start",
        ),
    ],
)
def test_rules_of_aggregates(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeclarationError, match=rule) as caught:
        aggregate(**changes)
    assert str(caught.value).startswith("ContinuousAggregate 'agg': ")


def test_a_name_is_declared_once() -> None:
    with pytest.raises(DeclarationError, match="declared twice"):
        aggregate(name="agg__kline_1h")


def test_an_end_that_is_null_cannot_be_said() -> None:
    with pytest.raises((TypeError, AttributeError)):
        Refresh("1 day", None, "1 hour")  # type: ignore[arg-type]


def test_a_fallback_serves_what_has_no_plain_form() -> None:
    metadata = market()
    fact = metadata.tables["market.fact__kline"]
    made = ContinuousAggregate(
        "agg",
        with_zone(metadata),
        metadata=metadata,
        fallback=sa.select(fact.c.open_time, fact.c.high),
    )
    spec = declarations_of(metadata).aggregates["market", "agg"]
    assert "'Asia/Seoul'" in spec.definition
    assert spec.fallback.startswith("SELECT {schema}.fact__kline.open_time")
    assert made.c.keys() == ["open_time", "high"]


def test_a_copy_in_another_schema_declares_the_same() -> None:
    copy = copy_metadata(market(), "wh_x")
    here, there = declarations_of(market()), declarations_of(copy)
    assert there == here.in_schema("market", "wh_x")
    assert {table.schema for table in copy.tables.values()} == {"wh_x"}
    assert copy.tables["wh_x.kline_1h"].is_view
    assert declarations_of(copy_metadata(copy, "market")) == here


def test_times_of_the_settings() -> None:
    declared = declarations_of(market())
    changed = with_policies(
        declared,
        {"fact__kline": {"retention": "1 year"}, "agg__kline_1h": {"refresh_start": "2 days"}},
    )
    assert changed.hypertables["market", "fact__kline"].retention == "1 year"
    assert changed.aggregates["market", "agg__kline_1h"].refresh == Refresh(
        "2 days", "1 hour", "15 minutes"
    )
    assert declared.hypertables["market", "fact__kline"].retention is None


@pytest.mark.parametrize(
    ("policies", "rule"),
    [
        ({"other": {}}, "no such hypertable or aggregate; known: agg__kline_1d"),
        (
            {"fact__kline": {"keep": "1 year"}},
            "keep of 'fact__kline': there is no such time; known: retention",
        ),
        ({"fact__kline": {"refresh_start": "1 day"}}, "a hypertable is not refreshed"),
        ({"fact__kline": {"retention": "soon"}}, "'soon' is no interval"),
        ({"agg__kline_1h": {"columnstore_after": "9 days"}}, "it declares no columnstore"),
        (
            {"agg__kline_1h": {"refresh_end": None}},
            "refresh_end of 'agg__kline_1h': it is never null",
        ),
        ({"agg__kline_1d": {"refresh_start": "1 day"}}, "must span two buckets of 1 day"),
        (
            {"fact__kline": {"retention": "23 hours", "columnstore_after": None}},
            "would erase what was dropped there",
        ),
    ],
)
def test_times_of_the_settings_that_break_a_rule(policies: Any, rule: str) -> None:
    with pytest.raises(DeclarationError, match=rule):
        with_policies(declarations_of(market()), policies)


def test_everything_that_is_wrong_with_times_is_told_with_the_times_it_is_about() -> None:
    errors = policy_errors(
        declarations_of(market()),
        {
            "fact__kline": {"retention": "23 hours", "refresh_end": "1 hour"},
            "agg__kline_1d": {"refresh_start": "soon", "refresh_end": "6 days"},
            "other": {},
        },
    )
    assert {(str(error).partition(":")[0], error.times) for error in errors} == {
        ("policies of 'other'", ()),
        ("refresh_end of 'fact__kline'", (("fact__kline", "refresh_end"),)),
        ("refresh_start of 'agg__kline_1d'", (("agg__kline_1d", "refresh_start"),)),
        (
            "Hypertable 'fact__kline'",
            (("fact__kline", "retention"), ("fact__kline", "columnstore_after")),
        ),
        (
            "ContinuousAggregate 'agg__kline_1h'",
            (("fact__kline", "retention"), ("agg__kline_1h", "refresh_start")),
        ),
        (
            "ContinuousAggregate 'agg__kline_1d'",
            (("agg__kline_1d", "refresh_start"), ("agg__kline_1d", "refresh_end")),
        ),
    }


def test_without_a_time_a_columnstore_has_no_schedule() -> None:
    declared = declarations_of(market(fact=hypertable(columnstore=store(schedule="1 day"))))
    changed = with_policies(declared, {"fact__kline": {"columnstore_after": None}})
    assert changed.hypertables["market", "fact__kline"].columnstore == store(after=None)


def test_views_take_any_select() -> None:
    metadata = market()
    hour = metadata.tables["market.agg__kline_1h"]
    View("v", sa.select(hour.c.open_time).union_all(sa.select(hour.c.open_time)), metadata=metadata)
    spec = declarations_of(metadata).relations["market", "v"]
    assert spec.sources == (("market", "agg__kline_1h"),)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("7 days", "1 week"),
        ("00:05:00", "5 minutes"),
        ("1 mon", "30 days"),
        ("1 day 02:00:00", "26 hours"),
        ("1 year", "12 months"),
        ("00:00:01.5", "1500 milliseconds"),
    ],
)
def test_intervals_that_are_the_same(text: str, same: str) -> None:
    assert same_interval(text, same)
    assert same_interval(str(Interval.parse(text)), text)


@pytest.mark.parametrize("text", ["", "soon", "7", "-1 day", "7 days x", "1 day ago", "'; --"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(ValueError, match="is no interval"):
        interval_text(text)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT first(a, b)", "SELECT (array_agg(a ORDER BY b))[1]"),
        (
            "SELECT public.last(f(a, 'x,)'), b)",
            "SELECT (array_agg(f(a, 'x,)') ORDER BY b DESC))[1]",
        ),
        (
            "SELECT last(first(a, b), c)",
            "SELECT (array_agg((array_agg(a ORDER BY b))[1] ORDER BY c DESC))[1]",
        ),
        ("SELECT 'first(a, b)', x.first(a, b)", "SELECT 'first(a, b)', x.first(a, b)"),
        (
            "SELECT time_bucket('01:00:00'::interval, k.t)",
            "SELECT date_bin(INTERVAL '1 hour', k.t, TIMESTAMPTZ '2000-01-03 00:00:00+00')",
        ),
        ("SELECT time_bucket('1 mon'::interval, t)", "SELECT date_trunc('month', t, 'UTC')"),
        ("SELECT time_bucket(INTERVAL '1 year', t)", "SELECT date_trunc('year', t, 'UTC')"),
    ],
)
def test_the_plain_form(sql: str, expected: str) -> None:
    assert plain_sql(sql) == expected


@pytest.mark.parametrize(
    "sql", ["time_bucket(INTERVAL '5 months', t)", "time_bucket(w, t)", "first(a, b, c)", "last(a"]
)
def test_what_has_no_plain_form(sql: str) -> None:
    with pytest.raises(ValueError, match=r"no plain form|not a written|not closed"):
        plain_sql(f"SELECT {sql}")


def test_the_width_of_buckets() -> None:
    assert bucket_width("SELECT time_bucket('1 day'::interval, t)") == Interval(days=1)
    with pytest.raises(ValueError, match="must group by one time_bucket"):
        bucket_width("SELECT time_bucket('1 day', t), time_bucket('1 hour', t)")


def test_collapse_keeps_what_is_quoted() -> None:
    assert collapse(" SELECT  'a  b'\n FROM \"c  d\" ; ") == "SELECT 'a  b' FROM \"c  d\""
