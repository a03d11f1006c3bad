"""One line of a Binance Vision file to one message. Pure: bytes in, a message or a reason out.

Units are the venue's own, numbers are exactly what ``float`` reads. Times are in milliseconds, or
in microseconds (spot files from 2025-01-01 on); a file does not say which, but the two never have
the same number of digits: 13 or 16 for every time from 2001-09-09 on. The first row whose time has
either number settles the unit, and the rows after it must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from math import inf
from typing import Literal

from ravenwh.domain.interval import INTERVALS
from ravenwh.domain.messages import Candle, Side, Trade
from ravenwh.domain.ohlc import ohlc_problem
from ravenwh.domain.series import from_ns

__all__ = ["COLUMNS", "PRODUCER", "BadRow", "Kind", "Parser", "parser"]

Kind = Literal["klines", "trades", "aggTrades"]
Parser = Callable[[bytes], Candle | Trade]

PRODUCER = "replay"

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "klines": (
        "open_time",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "close_time",
        "quote_volume",
        "count",
        "taker_buy_volume",
        "taker_buy_quote_volume",
        "ignore",
    ),
    "trades": ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
    "aggTrades": (
        "agg_trade_id",
        "price",
        "quantity",
        "first_trade_id",
        "last_trade_id",
        "transact_time",
        "is_buyer_maker",
        "is_best_match",
    ),
}
"""The columns of each kind. Files of the futures markets lack the last one of trades."""

_STARTS: dict[str, tuple[int, int]] = {
    "3d": (86_400, 0),  # from which day the venue counts three days is not written anywhere
    "1w": (604_800, 345_600),  # Monday; 1970-01-01 was a Thursday
}
"""(step, offset) in seconds of the intervals whose starts are not multiples counted from 1970."""

_LATEST_S = 9_214_646_400  # 2262-01-01; a little later nanoseconds outgrow 64 bits
_MS = (10**12, _LATEST_S * 10**3)  # from 2001-09-09
_US = (10**15, _LATEST_S * 10**6)
_MAX_COUNT = 2**63

_SIDES: dict[bytes, Side] = {b"true": "sell", b"false": "buy"}


class BadRow(ValueError):
    """A line that is no message; the text is the reason. Never leaves this package."""


def parser(
    kind: Kind, *, venue: str, symbol: str, interval: str | None = None, producer: str = PRODUCER
) -> Parser:
    """A function from a line (without its end) to a message, for one file: it learns the unit.

    Klines need the code of an interval. The function raises BadRow.
    """
    if kind != "klines":
        return _trade_parser(kind, venue, symbol, producer)
    if interval is None:
        raise ValueError("klines need an interval")
    return _kline_parser(venue, symbol, interval, producer)


def _kline_parser(venue: str, symbol: str, interval: str, producer: str) -> Parser:
    duration_s = INTERVALS[interval].duration // timedelta(seconds=1)
    step_s, offset_s = _STARTS.get(interval, (duration_s, 0))
    columns = COLUMNS["klines"]
    # In the file's unit; the empty range sends the first row to the detection below.
    lowest = highest = scale = step = offset = longest = 0

    def parse(line: bytes) -> Candle:
        nonlocal lowest, highest, scale, step, offset, longest
        fields = line.split(b",")
        if len(fields) != 12 or b"_" in line:
            raise _not_numbers(line, fields, columns, (12,))
        try:
            open_time = int(fields[0])
            open_ = float(fields[1])
            high = float(fields[2])
            low = float(fields[3])
            close = float(fields[4])
            volume = float(fields[5])
            close_time = int(fields[6])
            quote_volume = float(fields[7])
            count = int(fields[8])
            taker_volume = float(fields[9])
            taker_quote_volume = float(fields[10])
        except ValueError:
            raise _not_numbers(line, fields, columns, (12,)) from None
        if not lowest <= open_time < highest:
            lowest, highest, scale = _unit("open_time", open_time, scale)
            per_s = 10**9 // scale
            step, offset, longest = step_s * per_s, offset_s * per_s, duration_s * per_s
        if (open_time - offset) % step:
            raise BadRow(
                f"open_time {open_time} is {from_ns(open_time * scale)}, which is no start of"
                f" a period of {interval}"
            )
        if not open_time <= close_time <= open_time + longest:
            relation = "before" if close_time < open_time else f"more than {interval} after"
            raise BadRow(
                f"close_time {_short(str(close_time))} is {relation} open_time {open_time}"
            )
        if not (
            -inf < low <= open_ <= high < inf
            and low <= close <= high
            and 0 <= volume < inf
            and 0 <= quote_volume < inf
            and 0 <= count < _MAX_COUNT
            and 0 <= taker_volume < inf
            and 0 <= taker_quote_volume < inf
        ):
            raise BadRow(_wrong_kline(fields))
        close_ns = close_time * scale
        told = count > 0 or volume == 0  # a kline with volume has trades, which some do not tell
        return Candle(
            venue=venue,
            symbol=symbol,
            event_time=close_ns,
            producer=producer,
            interval=interval,
            open_time=open_time * scale,
            close_time=close_ns,
            open=open_,
            high=high,
            low=low,
            close=close,
            volume=volume,
            quote_volume=quote_volume if told else None,
            trade_count=count if told else None,
            taker_buy_volume=taker_volume if told else None,
            taker_buy_quote_volume=taker_quote_volume if told else None,
        )

    return parse


def _trade_parser(kind: Kind, venue: str, symbol: str, producer: str) -> Parser:
    columns = COLUMNS[kind]
    widths = (len(columns) - 1, len(columns))
    time_at = columns.index("is_buyer_maker") - 1
    lowest = highest = scale = 0

    def parse(line: bytes) -> Trade:
        nonlocal lowest, highest, scale
        fields = line.split(b",")
        if len(fields) not in widths:
            raise _not_numbers(line, fields, columns, widths)
        trade_id = fields[0]
        side = _SIDES.get(fields[time_at + 1].strip().lower())
        try:
            price = float(fields[1])
            quantity = float(fields[2])
            time = int(fields[time_at])
        except ValueError:
            raise _not_numbers(line, fields, columns, widths) from None
        if not trade_id.isdigit() or side is None or b"_" in line:
            raise _not_numbers(line, fields, columns, widths)
        if not (-inf < price < inf and 0 <= quantity < inf):
            raise BadRow(
                f"price {price}, quantity {quantity}: both must be finite, and the quantity"
                " not negative"
            )
        if not lowest <= time < highest:
            lowest, highest, scale = _unit(columns[time_at], time, scale)
        return Trade(
            venue=venue,
            symbol=symbol,
            event_time=time * scale,
            producer=producer,
            price=price,
            quantity=quantity,
            side=side,
            trade_id=trade_id.decode("ascii"),
        )

    return parse


def _unit(column: str, time: int, known: int) -> tuple[int, int, int]:
    """The range of the unit that ``time`` is in, and the nanoseconds of one.

    ``known`` is the unit of the rows before, 0 for none.
    """
    for scale, (lowest, highest) in ((10**6, _MS), (10**3, _US)):
        if lowest <= time < highest and known in (0, scale):
            return lowest, highest, scale
    if known:
        name = "milliseconds" if known == 10**6 else "microseconds"
        raise BadRow(f"{column} {_short(str(time))} is no time in {name}, as the rows before have")
    raise BadRow(
        f"{column} {_short(str(time))} is no time in milliseconds (13 digits) or microseconds"
        " (16 digits)"
    )


def _not_numbers(
    line: bytes, fields: list[bytes], columns: tuple[str, ...], widths: tuple[int, ...]
) -> BadRow:
    """Why a line could not be read, told by its first wrong column."""
    if len(fields) not in widths:
        allowed = " or ".join(str(width) for width in widths)
        return BadRow(f"{len(fields)} columns, where {allowed} are expected: {_show(line)}")
    for column, field in zip(columns, fields, strict=False):
        text = field.strip()
        match column:
            case "is_buyer_maker":
                ok, wanted = text.lower() in _SIDES, "true or false"
            case "ignore" | "is_best_match" | "quote_qty" | "first_trade_id" | "last_trade_id":
                ok, wanted = True, ""
            case "id" | "agg_trade_id":
                ok, wanted = field.isdigit(), "an id of digits"
            case "open_time" | "close_time" | "time" | "transact_time" | "count":
                ok, wanted = _reads(int, text), "a whole number"
            case _:
                ok, wanted = _reads(float, text), "a number"
        if not ok:
            return BadRow(f"{column} is {_show(text)}, not {wanted}")
    return BadRow(f"a column that is not read holds an underscore: {_show(line)}")


def _reads(number: type[int] | type[float], text: bytes) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return b"_" not in text  # Python reads 1_000 as a number, nothing else does


def _wrong_kline(fields: list[bytes]) -> str:
    """Which value of a kline cannot be, when all of them are numbers."""
    columns = COLUMNS["klines"]
    for at in (1, 2, 3, 4, 5, 7, 9, 10):
        value = float(fields[at])
        if not -inf < value < inf:
            return f"{columns[at]} is {_show(fields[at])}, not a finite number"
        if at >= 5 and value < 0:
            return f"{columns[at]} is {_show(fields[at])}, below zero"
    if not 0 <= int(fields[8]) < _MAX_COUNT:
        return f"count is {_show(fields[8])}, outside 0 .. 2^63"
    if float(fields[2]) < float(fields[3]):
        return f"high {_show(fields[2])} is below low {_show(fields[3])}"
    return ohlc_problem(*(float(field) for field in fields[1:5])) or "no kline"


def _show(text: bytes) -> str:
    """In quotes, with everything but printable ASCII escaped."""
    return repr(text if len(text) <= 80 else text[:77] + b"...")[1:]


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
