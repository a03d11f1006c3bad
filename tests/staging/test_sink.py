"""Ticks into a bucket, whatever a server answers: nothing is lost, and nothing written twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest
from loguru import logger
from msgspec.structs import replace

from ravenwh.config.secret_file import secret_of
from ravenwh.domain.errors import RavenwhError, Rejected, TooLarge, Unavailable
from ravenwh.domain.messages import Message, OpenInterest, OrderBook, PriceIndex, Trade
from ravenwh.domain.settings import Influx
from ravenwh.ports import WriteResult
from ravenwh.staging.encoder import Encoded, Encoder
from ravenwh.staging.server import LONGEST_WAIT_S, Server
from ravenwh.staging.sink import LARGEST_BODY, MOST_REQUESTS, TickSink
from tests.engines.influx import InfluxBucket
from tests.engines.influx_shim import Fault

AT = 1_723_161_255_342_000_000
MS = 1_000_000
TRADE = Trade(
    venue="BINANCE_SPOT",
    symbol="BTCUSDT",
    event_time=AT,
    price=61837.5,
    quantity=0.25,
    side="buy",
    trade_id="0",
)


def trades(count: int, *, first: int = 0) -> list[Message]:
    """Trades with ids in sequence, a few in each millisecond, of both sides by turns."""
    return [
        replace(
            TRADE,
            event_time=AT + i // 3 * MS,
            trade_id=str(3_712_000_000 + i),
            side="buy" if i % 2 else "sell",
        )
        for i in range(first, first + count)
    ]


@attrs.define
class Poisoned(Encoder):
    """An encoder that is wrong about some messages: it makes lines that no server takes."""

    wrong: dict[int, Callable[[str], str]] = attrs.field(factory=dict, kw_only=True)

    def encode(self, messages: Any) -> Encoded:
        encoded = super().encode(messages)
        lines = list(encoded.lines)
        for i, change in self.wrong.items():
            lines[i] = change(lines[i])
        return attrs.evolve(encoded, lines=lines)


def unparsable(line: str) -> str:
    return line.replace("price=", "price=x", 1)


def whole_price(line: str) -> str:
    """The price as an integer: another type than the bucket's."""
    return line.replace("price=61837.5,", "price=61837i,", 1)


@pytest.fixture
def sink(influx: InfluxBucket) -> Iterator[TickSink]:
    server = influx.server()
    yield TickSink(server=server)
    server.close()


def spread(count: int, of: int) -> list[int]:
    """So many indices, far from each other, neither first nor last."""
    return [int((k + 0.5) * of / count) for k in range(count)]


async def write(sink: TickSink, batch: list[Message]) -> WriteResult:
    """As a worker does: again, until it is taken."""
    for _ in range(50):
        try:
            return await sink.write(batch)
        except Unavailable:
            continue
    raise AssertionError("fifty tries, and it is not taken")


async def test_a_batch_is_one_request(influx: InfluxBucket, sink: TickSink) -> None:
    batch = trades(5000)
    assert await sink.write(batch) == WriteResult(written=5000)
    assert influx.count() == 5000
    (seen,) = influx.shim.seen
    assert len(seen.lines) == 5000
    assert len(seen.body) <= LARGEST_BODY
    assert seen.encoding == ""


async def test_requests_share_a_connection(influx: InfluxBucket, sink: TickSink) -> None:
    for i in range(5):
        await sink.write(trades(10, first=10 * i))
    assert len({seen.connection for seen in influx.shim.seen}) == 1
    assert influx.count() == 50


async def test_nothing_to_write_asks_nothing(influx: InfluxBucket, sink: TickSink) -> None:
    bad = replace(TRADE, price=float("nan"))
    result = await sink.write([bad])
    assert [index for index, _ in result.rejected] == [0]
    assert await sink.write([]) == WriteResult()
    assert influx.shim.seen == []


async def test_no_body_is_larger_than_a_mebibyte(influx: InfluxBucket, sink: TickSink) -> None:
    batch = [replace(t, symbol="币" * 80 + str(i % 5)) for i, t in enumerate(trades(9000))]
    assert (await sink.write(batch)).written == 9000
    assert len(influx.shim.seen) > 2
    assert max(len(seen.body) for seen in influx.shim.seen) <= LARGEST_BODY
    sent = [line for seen in influx.shim.seen for line in seen.lines]
    assert sent == [line.encode() for line in Encoder().encode(batch).lines]  # in their order
    assert influx.count() == 9000


async def test_compressed_when_it_is_asked_for(influx: InfluxBucket) -> None:
    server = influx.server(compression="gzip")
    assert (await TickSink(server=server).write(trades(1000))).written == 1000
    server.close()
    assert influx.shim.seen[0].encoding == "gzip"
    assert influx.count() == 1000


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, message="unavailable"),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=500, message="unexpected error writing points to database: timeout"),
        Fault(status=502),
        Fault(status=408),
        Fault(status=0),
        Fault(status=0, cut_after=1000),
        Fault(status=0, is_stored=True),
        Fault(status=500, is_stored=True, message="unexpected error: timeout"),
        Fault(status=422, message="partial write: write x: no space left on device dropped=1"),
        Fault(status=422, message="partial write: shard 3 is pending deletion dropped=9"),
    ],
)
async def test_what_may_heal_is_tried_again(
    influx: InfluxBucket, sink: TickSink, fault: Fault
) -> None:
    batch = trades(500)
    influx.shim.faults += [fault] * 3
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await sink.write(batch)
        assert not caught.value.needs_person
    assert await sink.write(batch) == WriteResult(written=500)
    assert influx.count() == 500


async def test_a_server_that_does_not_answer(influx: InfluxBucket) -> None:
    held = threading.Event()
    influx.shim.faults.append(Fault(status=204, is_stored=True, until=held))
    server = Server(settings=influx.settings, timeout_s=2.0)
    sink, batch = TickSink(server=server), trades(10)
    with pytest.raises(Unavailable, match="timed out"):
        await sink.write(batch)
    held.set()
    assert (await sink.write(batch)).written == 10
    server.close()
    assert influx.count() == 10


async def test_nobody_listens() -> None:
    server = Server(settings=Influx(url="http://127.0.0.1:1"))
    with pytest.raises(Unavailable, match="refused") as caught:
        await TickSink(server=server).write(trades(1))
    server.close()
    assert not caught.value.needs_person


async def test_nobody_knows_the_name() -> None:
    """It is longer than a name may be: that is told without asking anybody."""
    server = Server(settings=Influx(url=f"http://{'.'.join(['a' * 60] * 5)}:8086"))
    with pytest.raises(Unavailable, match=r"Failed to resolve 'aaa") as caught:
        await TickSink(server=server).write(trades(1))
    server.close()
    assert not caught.value.needs_person


RESET = struct.pack("ii", 1, 0)
"""Of SO_LINGER: what waits to be sent is dropped, and the other end is told so."""


def reset(end: socket.socket) -> None:
    """Who sends on finds the connection reset (ECONNRESET)."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def hang_up(end: socket.socket) -> None:
    """Who sends on finds nobody at the other end (EPIPE)."""
    end.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("how", [reset, hang_up])
async def test_a_connection_that_breaks_while_it_sends(
    how: Callable[[socket.socket], None],
) -> None:
    """Which of the words it is, is the kernel's affair: it depends on what was sent by then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def broken() -> None:
            with listening.accept()[0] as end:
                end.recv(100)
                how(end)

        server = Server(settings=Influx(url=f"http://127.0.0.1:{listening.getsockname()[1]}"))
        with contextlib.closing(server):
            breaking = asyncio.create_task(asyncio.to_thread(broken))
            words = "reset by peer|Broken pipe|end closed connection"
            with pytest.raises(Unavailable, match=f"did not take the batch: .*({words})") as caught:
                await TickSink(server=server).write(trades(8000))
            await breaking
    assert not caught.value.needs_person


async def test_https_where_there_is_none(influx: InfluxBucket) -> None:
    server = influx.server(url=influx.settings.url.replace("http:", "https:"))
    with pytest.raises(Unavailable) as caught:
        await TickSink(server=server).write(trades(1))
    server.close()
    assert caught.value.needs_person


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("86400", LONGEST_WAIT_S, LONGEST_WAIT_S),
        ("inf", LONGEST_WAIT_S, LONGEST_WAIT_S),
        ("-5", 0, 0),
        ("nan", 0, 0),
        ("soon", 10, 10),
        (lambda: in_seconds(30), 1, 30),
        (lambda: in_seconds(-30), 0, 0),
    ],
)
async def test_a_wish_to_be_left_alone_is_told(
    influx: InfluxBucket,
    sink: TickSink,
    asked: str | Callable[[], str],
    least: float,
    most: float,
) -> None:
    header = asked if isinstance(asked, str) else asked()
    influx.shim.faults.append(Fault(status=429, headers={"Retry-After": header}))
    with pytest.raises(Unavailable) as caught:
        await sink.write(trades(1))
    assert caught.value.retry_after_s is not None
    assert least <= caught.value.retry_after_s <= most


def in_seconds(seconds: float) -> str:
    """A date as HTTP writes it."""
    return formatdate(time.time() + seconds, usegmt=True)


async def test_a_new_token_is_read_from_its_file(influx: InfluxBucket, tmp_path: Path) -> None:
    """401, 403 and 404 hold the batch, and say what to do; then it is written as it is."""
    file = tmp_path / "token"
    file.write_text("old\n")
    server = influx.server(token=secret_of(file))
    sink, batch = TickSink(server=server), trades(100)
    with pytest.raises(Unavailable, match=r"401.*influx\.token_file") as caught:
        await sink.write(batch)
    assert caught.value.needs_person
    influx.shim.tokens["weak"] = frozenset({"read"})
    file.write_text("weak")
    with pytest.raises(Unavailable, match=r"403.*right to write") as caught:
        await sink.write(batch)
    assert caught.value.needs_person
    file.write_text("not ascii: é")
    with pytest.raises(Unavailable, match="found \\*\\*\\*; allowed: visible ASCII") as caught:
        await sink.write(batch)
    assert caught.value.needs_person
    file.unlink()
    with pytest.raises(Unavailable, match="cannot be read") as caught:
        await sink.write(batch)
    assert caught.value.needs_person
    file.write_text(influx.settings.token.reveal() if influx.settings.token else "")
    assert await sink.write(batch) == WriteResult(written=100)
    server.close()
    assert influx.count() == 100


async def test_a_bucket_that_is_not_there_is_waited_for(influx: InfluxBucket) -> None:
    server = influx.server(bucket="not_there")
    with pytest.raises(
        Unavailable, match=r'404 bucket "not_there" not found.*runners\.init'
    ) as caught:
        await TickSink(server=server).write(trades(1))
    server.close()
    assert caught.value.needs_person


@pytest.mark.parametrize("count", [1, 10])
async def test_lines_that_are_named_cost_one_more_request(influx: InfluxBucket, count: int) -> None:
    await isolated(influx, dict.fromkeys(spread(count, 5000), unparsable), requests=2)


async def test_every_message_is_accounted_for_where_no_reason_is_given(
    influx: InfluxBucket, sink: TickSink
) -> None:
    batch = trades(10)
    bad = Encoder().encode(batch).lines[4]
    influx.shim.faults.append(Fault(status=400, message=f"unable to parse '{bad}': "))
    result = await sink.write(batch)
    assert [index for index, _ in result.rejected] == [4]
    assert (result.written, influx.count()) == (9, 9)


async def test_lines_that_are_named_where_the_others_are_stored(
    influx_partial: InfluxBucket,
) -> None:
    await isolated(influx_partial, dict.fromkeys(spread(10, 5000), unparsable), requests=2)


async def test_lines_that_are_not_named_are_found_by_halving(influx: InfluxBucket) -> None:
    await isolated(influx, dict.fromkeys(spread(1, 5000), whole_price), requests=30)


async def test_ten_lines_that_are_not_named(influx: InfluxBucket) -> None:
    await isolated(influx, dict.fromkeys(spread(10, 5000), whole_price), requests=200)


async def test_both_kinds_at_once(influx: InfluxBucket) -> None:
    wrong = dict.fromkeys(spread(10, 5000), unparsable)
    wrong |= dict.fromkeys((i + 7 for i in spread(5, 5000)), whole_price)
    await isolated(influx, wrong, requests=130)


async def isolated(
    influx: InfluxBucket, wrong: dict[int, Callable[[str], str]], *, requests: int
) -> None:
    """5,000 lines with these wrong ones: all others are stored, each wrong one is told."""
    server = influx.server()
    await TickSink(server=server).write(trades(1, first=5000))  # it decides the types
    influx.shim.seen.clear()
    sink = TickSink(server=server, encoder=Poisoned(wrong=wrong))
    result = await sink.write(trades(5000))
    server.close()
    assert [index for index, _ in result.rejected] == sorted(wrong)
    assert {getattr(error, "code", "") for _, error in result.rejected} == {"INFLUX_REFUSED"}
    assert result.written == 5000 - len(wrong)
    assert influx.count() == 5001 - len(wrong)
    assert len(influx.shim.seen) <= requests


async def test_a_bucket_with_another_type_holds_the_batch(influx: InfluxBucket) -> None:
    """It is the bucket that is wrong: nothing is given up, and few requests are made."""
    server = influx.server()
    whole = Poisoned(wrong={0: whole_price})
    assert (await TickSink(server=server, encoder=whole).write(trades(1, first=5000))).written == 1
    influx.shim.seen.clear()
    sink, batch = TickSink(server=server), trades(5000)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"field type conflict.*mend the bucket") as caught:
            await sink.write(batch)
        assert caught.value.needs_person
    assert len(influx.shim.seen) == 3
    influx.query('DROP MEASUREMENT "trades"')
    assert await sink.write(batch) == WriteResult(written=5000)
    server.close()
    assert influx.count() == 5000


async def test_a_search_that_takes_long_goes_on_at_the_next_try(influx: InfluxBucket) -> None:
    server = influx.server()
    await TickSink(server=server).write(trades(1, first=5000))
    wrong = dict.fromkeys(spread(90, 5000), whole_price)
    sink, batch = TickSink(server=server, encoder=Poisoned(wrong=wrong)), trades(5000)
    tries, result = 0, None
    while result is None:
        influx.shim.seen.clear()
        tries += 1
        with contextlib.suppress(Unavailable):
            result = await sink.write(batch)
        assert len(influx.shim.seen) <= MOST_REQUESTS
    server.close()
    assert 1 < tries < 10
    assert [index for index, _ in result.rejected] == sorted(wrong)
    assert result.written == 5000 - len(wrong)


async def test_an_outage_in_the_middle_of_a_search(influx: InfluxBucket) -> None:
    server = influx.server()
    await TickSink(server=server).write(trades(1, first=5000))
    wrong = dict.fromkeys(spread(3, 1000), whole_price)
    sink = TickSink(server=server, encoder=Poisoned(wrong=wrong))
    batch = trades(1000)
    influx.shim.faults += [Fault(status=s) for s in (503, 0, 503)]
    result = await write(sink, batch)
    server.close()
    assert [index for index, _ in result.rejected] == sorted(wrong)
    assert result.written == 997
    assert influx.count() == 998


async def test_a_server_that_takes_little_at_once(influx: InfluxBucket, sink: TickSink) -> None:
    influx.shim.largest = 20_000
    assert await sink.write(trades(2000)) == WriteResult(written=2000)
    assert influx.count() == 2000
    stored = [line for seen in influx.shim.seen if seen.status == 204 for line in seen.lines]
    assert stored == [line.encode() for line in Encoder().encode(trades(2000)).lines]


async def test_a_line_that_is_too_large_alone(influx: InfluxBucket, sink: TickSink) -> None:
    influx.shim.largest = 200
    batch = trades(4)
    batch[2] = replace(batch[2], trade_id="x" * 200)
    result = await sink.write(batch)
    ((index, error),) = result.rejected
    assert (index, type(error), result.written) == (2, TooLarge, 3)


async def test_points_that_are_too_old_are_expired(influx: InfluxBucket) -> None:
    if influx.influxd is None:
        pytest.skip("a real version 2 keeps the buckets of tests for ever")
    keeps = f"CREATE RETENTION POLICY kept ON {influx.settings.bucket} DURATION 1h"
    influx.influxd.query(f"{keeps} REPLICATION 1 DEFAULT")
    lines: list[str] = []
    handler = logger.add(lambda line: lines.append(str(line)), format="{message} {extra}")
    server = influx.server()
    batch = [*trades(30), *recent(70)]
    result = await TickSink(server=server).write(batch)
    server.close()
    logger.remove(handler)
    assert result == WriteResult(written=70, expired=30)
    assert influx.count() == 70
    assert [line for line in lines if line.startswith("POINTS_EXPIRED")] != []


def recent(count: int) -> list[Message]:
    now = time.time_ns()
    return [replace(TRADE, event_time=now, trade_id=str(i)) for i in range(count)]


async def test_a_batch_goes_on_where_it_was(influx: InfluxBucket, sink: TickSink) -> None:
    """What of it is stored is not sent again; what is ambiguous is decided once."""
    batch: list[Message] = [replace(t, trade_id=None, symbol="币" * 80) for t in trades(9000)]
    influx.shim.faults += [Fault(status=204, is_stored=True), Fault(status=503)]
    with pytest.raises(Unavailable):
        await sink.write(batch)
    ambiguous = sink.encoder.ambiguous
    assert (await sink.write(batch)).written == 9000
    assert sink.encoder.ambiguous == ambiguous
    bodies = [seen.body for seen in influx.shim.seen if seen.status == 204]
    assert len(bodies) == len(set(bodies))
    assert influx.count() == 9000


async def test_another_batch_in_its_place(influx: InfluxBucket, sink: TickSink) -> None:
    influx.shim.faults.append(Fault(status=503))
    with pytest.raises(Unavailable):
        await sink.write(trades(100))
    assert (await sink.write(trades(50, first=100))).written == 50
    assert influx.count() == 50


async def test_states_of_one_time_keep_their_order(influx: InfluxBucket, sink: TickSink) -> None:
    """The last one stands, also where halving sends a part again."""
    influx.shim.largest = 3000
    states: list[Message] = [
        OpenInterest(venue="V", symbol="S", event_time=AT, open_interest=float(i))
        for i in range(100)
    ]
    await sink.write(states)
    assert [point["open_interest"] for point in influx.points("open_interest")] == [99]


async def test_two_books_of_one_time_are_never_mixed(influx: InfluxBucket, sink: TickSink) -> None:
    book = OrderBook(
        venue="V", symbol="S", event_time=AT, bids=((1.0, 2.0),), asks=((3.0, 4.0),), snapshot=True
    )
    half = replace(book, asks=())
    later = replace(book, bids=((1.5, 5.0),), asks=((2.5, 6.0),))
    result = await sink.write([book, half, later])
    assert [index for index, _ in result.rejected] == [1]
    (point,) = influx.points("orderbook")
    assert (point["bid_price"], point["bid_qty"], point["ask_price"], point["ask_qty"]) == (
        1.5,
        5,
        2.5,
        6,
    )


async def test_rejected_messages_keep_their_index(influx: InfluxBucket) -> None:
    """Those that the encoder refuses and those that the server does, in one batch."""
    server = influx.server()
    await TickSink(server=server).write(trades(1, first=100))
    batch: list[Message] = trades(20)
    batch[3] = replace(TRADE, price=float("inf"))
    batch[9] = PriceIndex(venue="V", symbol="", event_time=AT, price=1.0)
    sink = TickSink(server=server, encoder=Poisoned(wrong={5: whole_price, 15: unparsable}))
    result = await sink.write(batch)
    server.close()
    found: dict[int, RavenwhError] = dict(result.rejected)
    assert sorted(found) == [3, 6, 9, 17]
    codes = {i: error.code for i, error in found.items() if isinstance(error, Rejected)}
    assert codes == {3: "NOT_FINITE", 6: "INFLUX_REFUSED", 9: "BAD_TAG", 17: "INFLUX_REFUSED"}
    assert result.written == 16
