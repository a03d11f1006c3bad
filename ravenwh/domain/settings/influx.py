"""Where raw ticks wait."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from ravenwh.domain.settings.kinds import Choice, FilePath, Hidden, Text, Whole
from ravenwh.domain.settings.option import Section, option, optional
from ravenwh.domain.settings.secret import Secret

__all__ = ["Influx"]


@attrs.frozen(kw_only=True)
class Influx(Section):
    """InfluxDB v2, where raw ticks wait."""

    url: str = option(
        Text(
            pattern=r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[^\s@?#]*)?",
            rule="http://HOST:PORT or https://HOST:PORT, without a user; the token is its own key",
        ),
        default="http://127.0.0.1:8086",
        help="Where InfluxDB is.",
    )
    org: str = option(
        Text(pattern=r"[^\x00-\x1f\x7f]{1,200}", rule="a name, not empty"),
        default="ravenwh",
        help="The organisation.",
    )
    bucket: str = option(
        Text(pattern=r"[^_\x00-\x1f\x7f\"][^\x00-\x1f\x7f\"]{0,199}", rule="a bucket's name"),
        default="ticks",
        help="The bucket.",
    )
    token: Secret | None = optional(
        Hidden(
            pattern=r"[!-~]+", rule="a string of visible ASCII characters without blanks, not empty"
        ),
        absent="ticks cannot be written",
        help="The token that may write to the bucket.",
        example="a-token",
    )
    retention_days: int = option(
        Whole(least=0, most=36_500),
        default=30,
        unit="days",
        help="How long the bucket keeps ticks; 0 keeps them for ever.",
    )
    batch_size: int = option(
        Whole(least=1, most=100_000), default=5000, unit="points", help="Points in one request."
    )
    batch_interval_ms: int = option(
        Whole(least=10, most=60_000),
        default=1000,
        unit="milliseconds",
        help="The longest that a point waits for its batch to fill.",
    )
    compression: Literal["none", "gzip"] = option(
        Choice(words=("none", "gzip")),
        default="none",
        help="Whether requests are compressed. gzip sends a fifth of the bytes, and takes a "
        "quarter of the time that encoding takes: for a server that is far away.",
    )
    export_dir: Path | None = optional(
        FilePath(rule="a folder; it is made if need be"),
        absent="days are exported where --to says, and none is missed until one was exported",
        help="Where ravenwh export --ticks writes the days of ticks, as Parquet. The tick runner "
        "watches, then, that none is dropped before.",
        example="/srv/ravenwh/ticks",
    )

    @property
    def is_configured(self) -> bool:
        """Whether InfluxDB is used: there is a token."""
        return self.token is not None
