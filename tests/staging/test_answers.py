"""What each answer of a server means, row by row; the words are those of its source."""

from __future__ import annotations

import pytest

from ravenwh.staging.answers import RULES, Answer, Verdict, named_lines

PARTIAL = "failure writing points to database: partial write: "
PARTIAL_2_0 = "unexpected error writing points to database: partial write: "
CONFLICT = (
    'field type conflict: input field "price" on measurement "trades" is type integer, already '
    "exists as type float dropped=1"
)
ROWS: list[tuple[Verdict, int, str]] = [
    (Verdict.STORED, 204, ""),
    (Verdict.STORED, 201, ""),
    (Verdict.STORED, 200, ""),
    (Verdict.CONFIG, 200, "<!DOCTYPE html><title>Log in to the network</title>"),
    (Verdict.TRANSIENT, 0, "NewConnectionError: connection refused"),
    (Verdict.TRANSIENT, 0, "BrokenPipeError: [Errno 32] Broken pipe"),
    (Verdict.TRANSIENT, 0, "NameResolutionError: Failed to resolve 'influx.invalid'"),
    (Verdict.CONFIG, 301, "moved"),
    (Verdict.CONFIG, 307, ""),
    (Verdict.TRANSIENT, 408, ""),
    (Verdict.TRANSIENT, 425, ""),
    (Verdict.TRANSIENT, 429, "org 1 has exceeded limited_write plan limit"),
    (Verdict.TRANSIENT, 500, "unexpected error writing points to database: timeout"),
    (Verdict.TRANSIENT, 500, "engine: cache-max-memory-size exceeded: (5/4)"),
    (Verdict.TRANSIENT, 500, PARTIAL_2_0 + "write /x.wal: no space left on device dropped=1"),
    (Verdict.TRANSIENT, 500, PARTIAL_2_0 + "shard 7 is pending deletion dropped=3"),
    (Verdict.TRANSIENT, 500, PARTIAL_2_0 + "engine is closed dropped=3"),
    (Verdict.TRANSIENT, 500, PARTIAL_2_0 + "what nobody foresaw dropped=3"),
    (Verdict.TRANSIENT, 500, '<html><input name="tag" value="partial write: max-"></html>'),
    (Verdict.TRANSIENT, 500, ""),
    (Verdict.TRANSIENT, 501, ""),
    (Verdict.TRANSIENT, 502, "<html>Bad Gateway</html>"),
    (Verdict.TRANSIENT, 503, ""),
    (Verdict.TRANSIENT, 504, ""),
    (Verdict.TRANSIENT, 599, ""),
    (Verdict.TRANSIENT, 422, PARTIAL + "write /var/lib/x.wal: no space left on device dropped=1"),
    (Verdict.TRANSIENT, 422, PARTIAL + "shard 7 is pending deletion dropped=3"),
    (Verdict.TRANSIENT, 422, "failure writing points to database: timeout"),
    (Verdict.TRANSIENT, 422, PARTIAL + "engine is closed dropped=3"),
    (Verdict.TRANSIENT, 400, "partial write: write x: no space left on device dropped=1"),
    (Verdict.TRANSIENT, 422, PARTIAL + "write x: disk quota exceeded dropped=1"),
    (Verdict.TRANSIENT, 422, PARTIAL + "sync x: input/output error dropped=1"),
    (Verdict.TRANSIENT, 422, PARTIAL + "open x: read-only file system dropped=1"),
    (Verdict.TRANSIENT, 422, PARTIAL + "open x: too many open files dropped=1"),
    (Verdict.POISON, 400, "unable to parse 'm,t=a f=NaN 1': invalid number"),
    (Verdict.POISON, 400, "partial write: unable to parse 'm x': missing fields dropped=0"),
    (Verdict.POISON, 400, "unable to parse 'm,t=timeout f=NaN 1': invalid number"),
    (Verdict.POISON, 400, "unable to parse 'm,org=bucket f=NaN 1': invalid number"),
    (Verdict.POISON, 422, PARTIAL + CONFLICT),
    (Verdict.POISON, 400, "partial write: " + CONFLICT),
    (
        Verdict.POISON,
        422,
        PARTIAL + 'max-values-per-tag limit exceeded (1/1): measurement="trades" tag="symbol" '
        'value="timeout" dropped=1',
    ),
    (Verdict.POISON, 422, PARTIAL + 'input field "trade_id" is too long, 1048577 > 1048576'),
    (Verdict.POISON, 400, "time outside range -9223372036854775806 - 9223372036854775806"),
    (Verdict.POISON, 400, ""),
    (Verdict.POISON, 422, ""),
    (Verdict.POISON, 500, "unexpected error writing points to database: " + CONFLICT),
    (Verdict.POISON, 500, PARTIAL_2_0 + CONFLICT),
    (
        Verdict.POISON,
        500,
        "partial write: unable to parse 'm,t=timeout x': missing fields dropped=0",
    ),
    (Verdict.POISON, 500, PARTIAL_2_0 + "max-series-per-database limit exceeded: (1) dropped=9"),
    (
        Verdict.POISON,
        500,
        PARTIAL_2_0 + 'max-values-per-tag limit exceeded (1/1): measurement="trades" tag="symbol" '
        'value="no space left" dropped=1',
    ),
    (Verdict.POISON, 500, PARTIAL_2_0 + 'invalid tag key: input tag "time" on measurement "m"'),
    (Verdict.POISON, 500, PARTIAL_2_0 + 'input field "trade_id" on measurement "m" is too long'),
    (Verdict.POISON, 500, PARTIAL_2_0 + "max key length exceeded: 65536 > 65535 dropped=1"),
    (Verdict.POISON, 500, PARTIAL_2_0 + "time outside range 1 - 2 dropped=1"),
    (
        Verdict.EXPIRED,
        422,
        PARTIAL + "dropped 3 points outside retention policy of duration 1h0m0s - oldest point "
        "trades at 2024-08-08, dropped because it violates a Retention Policy Lower Bound",
    ),
    (Verdict.EXPIRED, 400, "partial write: points beyond retention policy dropped=2"),
    (Verdict.EXPIRED, 500, PARTIAL_2_0 + "points beyond retention policy dropped=2"),
    (Verdict.EXPIRED, 500, PARTIAL_2_0 + "dropped 3 points outside retention policy of duration"),
    (Verdict.TOO_BIG, 413, "unable to read data: points batch is too large"),
    (Verdict.TOO_BIG, 413, "Request Entity Too Large"),
    (Verdict.CONFIG, 401, "unauthorized access"),
    (Verdict.CONFIG, 403, "insufficient permissions for write"),
    (Verdict.CONFIG, 404, 'bucket "ticks" not found'),
    (Verdict.CONFIG, 400, "invalid precision; valid precision units are ns, us, ms, and s"),
    (Verdict.CONFIG, 400, "please provide either orgID or org"),
    (Verdict.CONFIG, 400, "unable to read data: gzip: invalid header"),
    (Verdict.CONFIG, 405, "method not allowed"),
    (Verdict.CONFIG, 406, ""),
    (Verdict.CONFIG, 415, ""),
    (Verdict.CONFIG, 418, "I am a teapot"),
    (Verdict.CONFIG, 101, ""),
    (Verdict.CONFIG, 999, ""),
]


@pytest.mark.parametrize(("verdict", "status", "message"), ROWS)
def test_what_an_answer_means(verdict: Verdict, status: int, message: str) -> None:
    assert Answer(status=status, message=message).verdict is verdict


def test_who_cannot_be_trusted_is_for_a_person() -> None:
    answer = Answer(status=0, message="SSLError: certificate has expired", is_insecure=True)
    assert answer.verdict is Verdict.CONFIG


def test_every_rule_is_met() -> None:
    """No row of the table is hidden by those before it."""
    answers = [Answer(status=status, message=message) for _, status, message in ROWS]
    answers.append(Answer(status=0, is_insecure=True))
    met = {next(i for i, rule in enumerate(RULES) if rule.fits(a)) for a in answers}
    assert met == set(range(len(RULES)))


def test_every_status_has_a_verdict() -> None:
    for status in range(1000):
        assert Answer(status=status).verdict in Verdict


@pytest.mark.parametrize(
    ("message", "dropped"),
    [
        (PARTIAL + CONFLICT, 1),
        (PARTIAL + "dropped 37 points outside retention policy of duration 1h", 37),
        ("partial write: points beyond retention policy dropped=2", 2),
        ("unable to parse 'm x'", None),
        ("", None),
    ],
)
def test_how_many_were_dropped(message: str, dropped: int | None) -> None:
    assert Answer(status=422, message=message).dropped == dropped


def test_the_lines_that_are_named() -> None:
    lines = {
        "m,t=a f=NaN 1",
        "m,t=a f=1 1",
        "m,t=it's':\\ so f=x 2",
        "unable to parse 'm",
        'm s="a\': b" 3',
        "m,t=é f=x 4",
    }
    message = (
        "partial write: unable to parse 'm,t=a f=NaN 1': invalid number\n"
        "unable to parse 'm,t=it's':\\ so f=x 2': invalid boolean\n"
        "unable to parse 'm s=\"a': b\" 3': bad timestamp\n"
        "unable to parse 'm,t=é f=x 4': invalid boolean\n"
        "unable to parse 'another line': missing fields dropped=0"
    )
    assert named_lines(message, lines) == {
        "m,t=a f=NaN 1": "invalid number",
        "m,t=it's':\\ so f=x 2": "invalid boolean",
        'm s="a\': b" 3': "bad timestamp",
        "m,t=é f=x 4": "invalid boolean",
    }
    assert named_lines("", lines) == {}
    assert named_lines("unable to parse '", lines) == {}
