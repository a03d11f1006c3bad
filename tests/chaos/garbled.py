"""Frames of both wires that nobody would send: true ones, with a few things done to them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from ravenwh.domain.messages import DATA_TYPES, Message
from ravenwh.feed import wire
from tests.chaos.bare import line
from tests.chaos.numbers import kline

OTHER = 10_000_000
OTHER_TIME = 1_577_836_800_000_000_000
"""A number and a time that are no good one's: a frame can be mutated into a better version."""
EXTREMES = (
    b"\x91" * 3_000,  # arrays in arrays
    b"[" * 3_000,
    b"\xdb\xff\xff\xff\xff",  # a text of 4 GiB
    b"\xdd\xff\xff\xff\xff",  # an array of as many
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # no number
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",  # 2^64 - 1
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",  # -2^63
    b"1e999",
    b"NaN",
    b"-99999999999999999999999999",
    b'"\\ud800"',
    b"\xff\xfe\x00",
    b"",
)
CRYPTOFEED = (
    b'BINANCE-trades-BTC-USDT {"exchange":"BINANCE","symbol":"BTC-USDT","side":"sell",'
    b'"amount":0.02,"price":61837.63,"id":"37","type":null,"timestamp":1723161255.342,'
    b'"receipt_timestamp":1723161254.08}',
    b'BINANCE-candles-BTC-USDT {"exchange":"BINANCE","symbol":"BTC-USDT","start":1723161240.0,'
    b'"stop":1723161299.999,"interval":"1m","trades":41,"open":2.0,"close":2.5,"high":3.0,'
    b'"low":1.0,"volume":7.0,"closed":true,"timestamp":1723161300.0,"receipt_timestamp":1.0}',
    b'BINANCE-book-NKN-USDT {"exchange":"BINANCE","symbol":"NKN-USDT","book":{"bid":{"0.3521":672},'
    b'"ask":{"0.3529":3}},"timestamp":1633998512.568,"receipt_timestamp":1633998512.56}',
    b'BINANCE-book-NKN-USDT {"exchange":"BINANCE","symbol":"NKN-USDT","delta":{"bid":[[0.35,4]],'
    b'"ask":[[0.36,1]]},"timestamp":1633998512.568,"receipt_timestamp":1633998512.56}',
    b'BYBIT-funding-BTC-USDT-PERP {"exchange":"BYBIT","symbol":"BTC-USDT-PERP","mark_price":null,'
    b'"rate":0.0001,"next_funding_time":1569916800,"predicted_rate":null,'
    b'"timestamp":1569888003.0,"receipt_timestamp":1.0}',
    b'BINANCE_FUTURES-liquidations-BTC-USDT-PERP {"exchange":"BINANCE_FUTURES","symbol":'
    b'"BTC-USDT-PERP","side":"buy","quantity":0.014,"price":4793.91,"id":null,"status":"filled",'
    b'"timestamp":1584059031.426,"receipt_timestamp":1.0}',
    b'DERIBIT-ticker-ETH-2800-21N30-call {"exchange":"DERIBIT","symbol":"ETH-2800-21N30-call",'
    b'"bid":0.0015,"ask":0.0025,"timestamp":1626993723.632,"receipt_timestamp":1.0}',
)


def examples() -> Iterator[Message]:
    """A message of every type, as full as it can be."""
    values: dict[str, object] = {
        "venue": "BINANCE_SPOT",
        "symbol": "ETHBTC",
        "side": "buy",
        "bids": ((1.0, 2.0), (0.5, 1.0)),
        "asks": ((1.5, 2.0),),
        "snapshot": True,
        "interval": "1m",
        "closed": True,
    }
    for cls in DATA_TYPES.values():
        given = {
            field.name: values.get(field.name, _filled(field.type))
            for field in msgspec.structs.fields(cls)
            if field.name in values or field.required
        }
        yield cls(**given)  # type: ignore[arg-type]  # by the types of the fields


def _filled(kind: object) -> object:
    text = str(kind)
    if "float" in text:
        return 1.25
    return OTHER_TIME if "int" in text else "text"


def mutated(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    """The bytes with a few things done to them, never the same."""
    while (data := _changed(rng, seed, other)) == seed:
        pass
    return data


def _changed(rng: random.Random, seed: bytes, other: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randrange(1, 12))
        match rng.choice((0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6)):  # most others leave no message
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                del data[at:]
            case 4:
                data[at:end] = rng.choice(EXTREMES)
            case 5:
                cut = rng.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case _:
                data[at:end] = rng.randbytes(end - at)
    return bytes(data)


def raven_frames(rng: random.Random, klines: int = 1) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Topic, header and payload, one of them mutated at least, without end.

    A kline is mutated ``klines`` times as often as a message of another kind.
    """
    seeds = [wire.encode(message) for message in (*examples(), *([kline(OTHER)] * klines))]
    while True:
        (topic, payload), (other_topic, other) = rng.choice(seeds), rng.choice(seeds)
        header = wire.header(1_704_067_200_000_000_000, rng.randrange(1, 1_000))
        which = rng.choices((0b001, 0b010, 0b100, 0b101, 0b110, 0b111), (1, 1, 10, 2, 2, 1))[0]
        yield (
            mutated(rng, topic, other_topic) if which & 0b001 else topic,
            mutated(rng, header, other[:16]) if which & 0b010 else header,
            mutated(rng, payload, other) if which & 0b100 else payload,
        )


def cryptofeed_frames(rng: random.Random, klines: int = 1) -> Iterator[bytes]:
    """The same of cryptofeed's wire, in one part."""
    seeds = [*CRYPTOFEED, *([line(OTHER, exchange="OKX")] * klines)]
    while True:
        yield mutated(rng, rng.choice(seeds), rng.choice(seeds))
