"""``docs/bars/*.svg``: bars of each kind, made of the simulator's trades.

``python -m docs.bar_pictures`` writes them anew; ``make reference`` does. Above, each bar from its
open to its close, with a line from high to low, as wide as it lasted; below, what ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from docs.star import TEXT, text
from ravenwh.domain.series import TimeRange, to_ns
from ravenwh.features import Bar, Chain, Profile, TickImbalance, TickRun, VolumeImbalance, Vpin
from ravenwh.sources.simulator import SimulatedMarket

__all__ = ["FOLDER", "PROFILES", "SPAN", "made", "picture"]

FOLDER = Path(__file__).parent / "bars"
START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = TimeRange(start=START, end=START + timedelta(hours=6))
PROFILES: Mapping[str, Profile] = {
    "tick-imbalance": TickImbalance(expected_ticks=400),
    "tick-run": TickRun(expected_ticks=800),
    "volume-imbalance": VolumeImbalance(expected_ticks=400, least_imbalance=0.06),
    "vpin": Vpin(bucket_volume=5.0, buckets=20),
}
"""What each page shows, by the name of the page."""

BELOW = {
    "tick-imbalance": "theta: trades bought less trades sold",
    "tick-run": "theta: the larger of trades bought and trades sold",
    "volume-imbalance": "theta: coins bought less coins sold",
    "vpin": "vpin, a fraction",
}
UP, DOWN, LINE = "#0b6e99", "#c2410c", "#86198f"
WIDTH, LEFT, RIGHT = 760, 64, 748
PRICE, MEASURE = (34.0, 224.0), (258.0, 338.0)
HEIGHT = 366

Scale = Callable[[float], float]


def made(profile: Profile) -> list[Bar]:
    """The bars of the profile in the pictures' six hours."""
    chain = Chain(profile)
    trades = SimulatedMarket(symbol="BTCUSDT").trades(SPAN)
    return [bar for trade in trades if (bar := chain.push(trade)) is not None]


def picture(page: str) -> str:
    """The picture of a page, the same each time."""
    bars = made(PROFILES[page])
    at = scale((SPAN.start_ns, SPAN.end_ns), (LEFT, RIGHT))
    price = scale((min(bar.low for bar in bars), max(bar.high for bar in bars)), PRICE[::-1])
    title = f"{type(PROFILES[page]).__name__} bars of simulated BTCUSDT: {len(bars)} in six hours"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" {TEXT}>',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#f8fafc"/>',
        text(LEFT, 20, "price, USDT", fill="#334155"),
        text(LEFT, MEASURE[0] - 12, BELOW[page], fill="#334155"),
        *hours(at),
        *levels(price, PRICE, [bar.low for bar in bars] + [bar.high for bar in bars]),
        *candles(bars, at, price),
        *measured(page, bars, at),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def scale(given: tuple[float, float], drawn: tuple[float, float]) -> Scale:
    """From values to places."""
    begin, end = given
    first, last = drawn
    return lambda value: first + (value - begin) * (last - first) / (end - begin)


def hours(at: Scale) -> Iterator[str]:
    """A line at each full hour."""
    for hour in range(7):
        x = at(to_ns(START + timedelta(hours=hour)))
        for top, bottom in (PRICE, MEASURE):
            yield stroke(f"M{x:.1f} {top:g}V{bottom:g}", "#e2e8f0")
        anchor = "end" if hour == 6 else "middle"
        yield text(round(x, 1), HEIGHT - 10, f"{hour:02}:00", fill="#64748b", anchor=anchor)


def levels(place: Scale, panel: tuple[float, float], values: Sequence[float]) -> Iterator[str]:
    """The least and the largest value beside a panel."""
    yield stroke(f"M{LEFT} {panel[0]:g}V{panel[1]:g}H{RIGHT}", "#94a3b8")
    for value in (min(values), max(values)):
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        yield text(LEFT - 6, round(place(value) + 4, 1), shown, anchor="end")


def candles(bars: Sequence[Bar], at: Scale, price: Scale) -> Iterator[str]:
    """Bodies and lines, those that rose and those that fell in one path each."""
    for colour, chosen in halves(bars, lambda bar: bar.close >= bar.open):
        wicks, bodies = [], []
        for bar in chosen:
            left, right = at(bar.open_time), at(bar.close_time)
            width = max(right - left - 0.4, 0.8)
            high, low = price(bar.high), price(bar.low)
            top = price(max(bar.open, bar.close))
            tall = max(price(min(bar.open, bar.close)) - top, 0.8)
            wicks.append(f"M{(left + right) / 2:.1f} {high:.1f}V{low:.1f}")
            bodies.append(f"M{left:.1f} {top:.1f}h{width:.1f}v{tall:.1f}h{-width:.1f}z")
        yield stroke("".join(wicks), colour)
        yield f'<path d="{"".join(bodies)}" fill="{colour}"/>'


def measured(page: str, bars: Sequence[Bar], at: Scale) -> Iterator[str]:
    """The panel below: columns of theta, or the line of VPIN."""
    if page == "vpin":
        warm = bars[20:]
        values = [bar.vpin or 0.0 for bar in warm]
        place = scale((0, max(values)), MEASURE[::-1])
        yield from levels(place, MEASURE, [0.0, *values])
        points = [
            f"{at(bar.close_time):.1f} {place(value):.1f}"
            for bar, value in zip(warm, values, strict=True)
        ]
        yield stroke(f"M{'L'.join(points)}", LINE, width=1.6)
        return
    thetas = [bar.theta or 0.0 for bar in bars]
    place = scale((min(0.0, *thetas), max(thetas)), MEASURE[::-1])
    yield from levels(place, MEASURE, [min(0.0, *thetas), *thetas])
    for colour, chosen in halves(bars, counted_buys if page == "tick-run" else bought):
        columns = []
        for bar in chosen:
            left, right = at(bar.open_time), at(bar.close_time)
            columns.append(
                f"M{left:.1f} {place(0):.1f}V{place(bar.theta or 0.0):.1f}"
                f"h{max(right - left - 0.4, 0.8):.1f}V{place(0):.1f}z"
            )
        yield f'<path d="{"".join(columns)}" fill="{colour}"/>'


def bought(bar: Bar) -> bool:
    """Whether more was bought."""
    return (bar.theta or 0.0) > 0


def counted_buys(bar: Bar) -> bool:
    """The same of a run, whose theta has no sign: whether it is the buys that it counts."""
    return bar.buy_ticks >= bar.sell_ticks


def halves(bars: Sequence[Bar], rose: Callable[[Bar], bool]) -> Iterator[tuple[str, Sequence[Bar]]]:
    """Those that did and those that did not, with their colours."""
    yield UP, [bar for bar in bars if rose(bar)]
    yield DOWN, [bar for bar in bars if not rose(bar)]


def stroke(path: str, colour: str, *, width: float = 1) -> str:
    """A line."""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>'


def main() -> None:
    """Write them all."""
    for page in PROFILES:
        (FOLDER / f"{page}.svg").write_text(picture(page), encoding="utf-8")


if __name__ == "__main__":
    main()
