"""What ``ravenwh journal`` and ``ravenwh dead-letters`` print and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from loguru import logger

from ravenwh.cli import ravenwh
from ravenwh.cli.dead_letters import decoded
from ravenwh.domain.errors import DecodeError, RavenwhError, Refused, UnknownSymbol
from ravenwh.journal import Store
from ravenwh.ports import Frame

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("RAVENWH_JOURNAL_DIR", str(tmp_path))

    def invoke(*arguments: str, **options: object) -> Result:
        return CliRunner().invoke(ravenwh, arguments, **options)  # type: ignore[arg-type]

    yield invoke
    logger.remove()


def frame(payload: bytes, *, topic: bytes = b"BINANCE_SPOT:CANDLE:BTCUSDT ") -> Frame:
    return Frame("default", topic, b"\x01" * 16, payload, 1_704_067_200_000_000_000)


@pytest.fixture
def journals(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "kline.sqlite", keep_s=3600)) as store:
        store.append([frame(b"x")] * 3)
        store.put([((1, frame(msgspec.msgpack.encode({"a": 1}))), UnknownSymbol("no rule"))])
        store.put([((n, frame(b"\xc1")), DecodeError("no message")) for n in range(2, 300)])
    with closing(Store(tmp_path / "tick.sqlite")) as store:
        store.put([((1, frame(b"{}", topic=b"\xff\n")), DecodeError("no message"))])


def refusal(result: Result) -> str:
    assert isinstance(result.exception, RavenwhError)
    return str(result.exception)


def test_without_a_journal_everything_says_so(run: Run) -> None:
    assert "no journal yet" in run("journal", "status").output
    assert json.loads(run("journal", "status", "--json").output) == []
    assert "nothing to put back" in run("journal", "replay", "--since", "2024-01-01").output
    assert "no dead letters" in run("dead-letters", "list").output
    assert run("dead-letters", "list", "--json").output == ""
    assert isinstance(run("dead-letters", "replay").exception, Refused)
    assert "those there are: none" in refusal(run("dead-letters", "list", "--service", "kline"))


@pytest.mark.usefixtures("journals")
def test_the_status_names_every_journal(run: Run, tmp_path: Path) -> None:
    out = run("journal", "status").output
    assert f"{tmp_path}/kline.sqlite" in out
    assert "waiting  3 frames, the oldest of 2024-01-01T00:00:00Z" in out
    assert "101 letters, 198 more counted only, 0 given up at the limit" in out
    assert out.count("held by  nobody") == 2
    with closing(Store(tmp_path / "tick.sqlite")):
        found = {
            one["service"]: one for one in json.loads(run("journal", "status", "--json").output)
        }
    assert found["kline"]["holders"] == []
    assert len(found["tick"]["holders"]) == 1


@pytest.mark.usefixtures("journals")
def test_a_replay_is_of_all_journals_or_of_none(run: Run, tmp_path: Path) -> None:
    out = run("journal", "replay", "--since", "2024-01-01T12:00").output
    assert "kline: 0 frames are put back" in out
    assert "tick: 0 frames" in out
    with closing(Store(tmp_path / "kline.sqlite", keep_s=3600)) as store:
        store.acknowledge(3)
    with closing(Store(tmp_path / "tick.sqlite")):
        assert "tick runner" in refusal(run("journal", "replay", "--since", "2024-01-01"))
    with closing(Store(tmp_path / "kline.sqlite")) as store:
        assert store.acknowledged == 3
    one = run("journal", "replay", "--since", "2024-01-01", "--service", "kline")
    assert one.output.startswith("kline: 3 frames are put back")
    assert run("journal", "replay").exit_code == 2
    assert run("journal", "replay", "--since", "yesterday").exit_code == 2


@pytest.mark.usefixtures("journals")
def test_letters_are_listed_by_cause_and_one_by_one(run: Run) -> None:
    lines = run("dead-letters", "list").output.splitlines()
    assert lines[0].startswith(
        "kline default BINANCE_SPOT:CANDLE DECODEERROR: 100 kept, 198 counted, 20"
    )
    assert lines[1] == "  number 101: no message"
    assert lines[4].startswith("tick default * DECODEERROR: 1 kept, 20")
    causes = [
        json.loads(line) for line in run("dead-letters", "list", "--json").output.split("\n")[:-1]
    ]
    assert [(one["service"], one["code"], one["kept"], one["collapsed"]) for one in causes] == [
        ("kline", "DECODEERROR", 100, 198),
        ("kline", "UNKNOWN_SYMBOL", 1, 0),
        ("tick", "DECODEERROR", 1, 0),
    ]
    each = run("dead-letters", "list", "--each", "--code", "UNKNOWN_SYMBOL").output
    assert each.endswith("UNKNOWN_SYMBOL BINANCE_SPOT:CANDLE:BTCUSDT: no rule\n")
    one = json.loads(run("dead-letters", "list", "--each", "--json", "--service", "tick").output)
    assert (one["topic"], one["payload"], one["header"]) == (r"b'\xff\n'", "e30=", "01" * 16)


@pytest.mark.usefixtures("journals")
def test_one_letter_is_shown(run: Run) -> None:
    assert "say which with --service" in refusal(run("dead-letters", "show", "1"))
    out = run("dead-letters", "show", "1", "--service", "kline").output
    assert '{\n  "a": 1\n}' in out
    assert "no rule" in out
    assert "b'\\xc1'" in run("dead-letters", "show", "2").output


@pytest.mark.usefixtures("journals")
def test_dropping_asks_first(run: Run) -> None:
    asked = run("dead-letters", "drop", "--service", "kline", input="n\n")
    assert "Remove 101 dead letters" in asked.output
    assert asked.exit_code == 1
    assert run("dead-letters", "drop", "--service", "kline", input="y\n").exit_code == 0
    assert "kline" not in run("dead-letters", "list").output


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"a": [1, null]}', '{\n  "a": [\n    1,\n    null\n  ]\n}'),
        (msgspec.msgpack.encode({"type": "CANDLE", "open": 1.5}), '"open": 1.5'),
        (msgspec.msgpack.encode({"open": float("nan")}), '"open": null'),
        (b"\xc1\xff", r"b'\xc1\xff'"),
        (b"", "b''"),
        (b"[" * 100_000, "characters)"),
        (msgspec.msgpack.encode({b"\xff": 1}), ""),
        (msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"abc")), ""),
        (b"\xa4\xff\xff\xff\xff", r"b'\xa4"),
        (b'{"a": "' + b"x" * 10_000 + b'"}', "characters)"),
    ],
)
def test_a_payload_is_decoded_where_it_can_be(payload: bytes, said: str) -> None:
    assert said in decoded(payload)
    assert len(decoded(payload)) < 2_100
