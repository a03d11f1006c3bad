"""Klines or bars as a figure: the price, and below it theta, VPIN or the volume."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ravenwh.domain.errors import Refused
from ravenwh.domain.frames import Frames, need
from ravenwh.domain.ohlc import PRICES

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

__all__ = ["chart"]

TOLD = (*PRICES, "volume", "trade_count", "total_ticks", "theta", "vpin")
"""What is told of the row that one points at."""

MOST = 20_000
"""More rows make a figure that a browser can hardly move."""

UP, DOWN, LINE = "#0b6e99", "#c2410c", "#86198f"
MILLISECOND, MINUTE = timedelta(milliseconds=1), timedelta(minutes=1)


def chart(frames: Frames) -> plotly.graph_objects.Figure:
    """Klines or bars as a figure of plotly, which a notebook shows; times are UTC.

    Above is the price in quote units: each row from open to close, with a line from low to high,
    as wide as it lasted, in one colour where it rose and in another where it fell. A cross is over
    bars before or in which trades may be missing. Below is the volume of klines, in coins; VPIN, a
    fraction; or theta, coloured by whether more was bought or sold. Raises Refused for ticks, for
    what is no read (``Frames``), for nothing or more than 20,000 rows, and where plotly is not
    installed.
    """
    if not isinstance(frames, Frames):
        raise Refused(
            f"a chart is of a read, and found {type(frames).__name__}: give the read itself, "
            "without .pandas(), .polars() or .arrow()"
        )
    graphs, subplots = (
        need(f"plotly.{name}", what="a chart", extra="charts")
        for name in ("graph_objects", "subplots")
    )
    frame = frames.pandas()
    if not {*PRICES, "volume"} <= set(frame.columns):
        raise Refused(f"{frames.of}: these rows have no prices; a chart is of klines or bars")
    if not 0 < len(frame) <= MOST:
        raise Refused(
            f"{frames.of}: a chart is of 1 to {MOST:,} rows, and the range that was read has "
            f"{len(frame):,}"
        )
    frame = _placed(frame)
    figure = subplots.make_subplots(
        rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=[0.7, 0.3]
    )
    figure.add_traces([_wicks(graphs, frame), _bodies(graphs, frame)], rows=1, cols=1)
    if "after_gap" in frame and frame["after_gap"].any():
        figure.add_trace(_gaps(graphs, frame[frame["after_gap"]]), row=1, col=1)
    below = next(name for name in ("vpin", "theta", "volume") if name in frame)
    figure.add_trace(_below(graphs, frame, below), row=2, col=1)
    figure.update_layout(
        title=_title(frames, frame), template="plotly_white", showlegend=False, barmode="overlay"
    )
    figure.update_yaxes(title_text="price", row=1, col=1)
    figure.update_yaxes(title_text=below, rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="UTC", row=2, col=1)
    return figure


def _placed(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The rows with when they ended, where their middle is, and how many milliseconds they lasted.

    A kline ended where the next one could begin. A bar may have begun and ended at one time: it has
    a millisecond here, as what has no width is not drawn. Times have no zone, as plotly has them.
    """
    opened = frame.index.tz_localize(None).to_series(index=frame.index)
    if "close_time" in frame:
        ended = frame["close_time"].dt.tz_localize(None)
    else:
        ended = opened + (opened.diff().min() if len(frame) > 1 else MINUTE)
    lasted = ended - opened
    return frame.assign(
        opened=opened,
        ended=ended,
        middle=opened + lasted / 2,
        lasted=(lasted / MILLISECOND).clip(lower=1.0),
    )


def _wicks(graphs: Any, frame: pandas.DataFrame) -> Any:
    """A line from low to high of each row, all in one trace, cut by nothing between two.

    Where a row closed as it opened, a line stands for its column, which would have no height.
    """
    x: list[Any] = []
    y: list[float | None] = []
    for at, low, high in zip(frame["middle"], frame["low"], frame["high"], strict=True):
        x += (at, at, None)
        y += (low, high, None)
    flat = frame[frame["close"] == frame["open"]]
    for opened, ended, close in zip(flat["opened"], flat["ended"], flat["close"], strict=True):
        x += (opened, ended, None)
        y += (close, close, None)
    line = {"color": "#64748b", "width": 1}
    return graphs.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="low to high")


def _bodies(graphs: Any, frame: pandas.DataFrame) -> Any:
    """A column from open to close of each row, which tells its numbers."""
    names = [name for name in TOLD if name in frame]
    texts = [
        "<br>".join((f"{at}", *(f"{name} {value}" for name, value in zip(names, row, strict=True))))
        for at, row in zip(frame.index, frame[names].itertuples(index=False), strict=True)
    ]
    return _columns(
        graphs,
        frame,
        frame["close"] >= frame["open"],
        base=frame["open"],
        y=frame["close"] - frame["open"],
        hovertext=texts,
        hoverinfo="text",
        name="open to close",
    )


def _gaps(graphs: Any, frame: pandas.DataFrame) -> Any:
    return graphs.Scatter(
        x=frame["middle"],
        y=frame["high"],
        mode="markers",
        marker={"symbol": "x", "color": "#334155"},
        name="after a gap",
    )


def _below(graphs: Any, frame: pandas.DataFrame, name: str) -> Any:
    if name == "vpin":
        line = {"color": LINE, "width": 1.6}
        return graphs.Scatter(x=frame["ended"], y=frame[name], mode="lines", line=line, name=name)
    is_up = frame["close"] >= frame["open"] if name == "volume" else _bought(frame)
    return _columns(graphs, frame, is_up, y=frame[name], name=name)


def _bought(frame: pandas.DataFrame) -> pandas.Series[Any]:
    """Of which bars more was bought. The theta of runs has no sign: it is the larger count."""
    theta, buys, sells = frame["theta"], frame["buy_ticks"], frame["sell_ticks"]
    is_run = (frame.attrs.get("parameters") or {}).get("kind") == "trb"
    return buys >= sells if is_run else theta > 0


def _columns(
    graphs: Any, frame: pandas.DataFrame, is_up: pandas.Series[Any], **further: Any
) -> Any:
    """A column for each row, at least one dot wide, in the colour of what it says."""
    colours = [UP if up else DOWN for up in is_up]
    marker = {"color": colours, "line": {"color": colours, "width": 1}}
    return graphs.Bar(x=frame["middle"], width=frame["lasted"], marker=marker, **further)


def _title(frames: Frames, frame: pandas.DataFrame) -> str:
    """What was read, and of bars how they were made."""
    parameters = frame.attrs.get("parameters") or {}
    made = (f"{name} {value:g}" for name, value in parameters.items() if name != "kind")
    return ", ".join((frames.of, *made))
