"""The four prices of a kline or bar, and what they must be to each other."""

from __future__ import annotations

__all__ = ["PRICES", "ohlc_problem"]

PRICES = ("open", "high", "low", "close")


def ohlc_problem(open_: float, high: float, low: float, close: float) -> str | None:
    """Why the prices are no open, high, low and close; None where they are. NaN never is."""
    if low <= open_ <= high and low <= close <= high:
        return None
    return (
        f"open, high, low, close = {open_}, {high}, {low}, {close}: open and close must lie"
        " between low and high"
    )
