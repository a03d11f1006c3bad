"""All the settings, and what only all of them together can answer."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import ClassVar

import attrs

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings.bars import Bars
from ravenwh.domain.settings.feed import Feed
from ravenwh.domain.settings.influx import Influx
from ravenwh.domain.settings.ingest import BinanceKlines, Ingest, Journal, Log
from ravenwh.domain.settings.option import Named, Rule, Section, Table, option
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.routing import FEED_NAME, Routing, Upstream, upstream_key
from ravenwh.domain.settings.server import Port, Server
from ravenwh.domain.settings.ticks import Ticks
from ravenwh.domain.settings.timescale import Embedded, Timescale
from ravenwh.domain.settings.toml_text import dotted

__all__ = ["Settings"]


def _upstreams_exist(
    upstreams: Mapping[str, object], feeds: Mapping[str, object]
) -> Iterator[Problem]:
    for key, feed in upstreams.items():
        if isinstance(feed, str) and feed not in feeds:
            yield Problem(
                path=("routing", "upstreams", key),
                text=f'found "{feed}"; allowed: a feed of the settings: {", ".join(feeds)}',
            )


def _feed_of_bars_exists(feed: str | None, feeds: Mapping[str, object]) -> Iterator[Problem]:
    if feed is not None and feed not in feeds:
        yield Problem(
            path=("bars", "feed"),
            text=f'found "{feed}"; allowed: a feed of the settings: {", ".join(feeds)}',
        )


def _at_least_one(feeds: Mapping[str, object]) -> Iterator[Problem]:
    if not feeds:
        yield Problem(path=("feeds",), text="found no feed; allowed: at least one")


@attrs.frozen(kw_only=True)
class Settings(Section):
    """Everything that can be set. Each room gets its own section, and no other."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(keys=("routing.upstreams", "feeds"), check=_upstreams_exist, partly=True),
        Rule(keys=("bars.feed", "feeds"), check=_feed_of_bars_exists, partly=True),
        Rule(keys=("feeds",), check=_at_least_one),
    )

    timescale: Timescale = option(Table(of=Timescale), default=Timescale(), help="")
    embedded: Embedded = option(Table(of=Embedded), default=Embedded(), help="")
    influx: Influx = option(Table(of=Influx), default=Influx(), help="")
    routing: Routing = option(Table(of=Routing), default=Routing(), help="")
    binance_klines: BinanceKlines = option(
        Table(of=BinanceKlines), default=BinanceKlines(), help=""
    )
    bars: Bars = option(Table(of=Bars), default=Bars(), help="")
    ticks: Ticks = option(Table(of=Ticks), default=Ticks(), help="")
    server: Server = option(Table(of=Server), default=Server(), help="")
    feeds: Mapping[str, Feed] = option(
        Named(name=FEED_NAME, item=Table(of=Feed)),
        default=MappingProxyType({"default": Feed()}),
        help="The feeds, each a table of its own. Where none is given there is one, default.",
    )
    journal: Journal = option(Table(of=Journal), default=Journal(), help="")
    ingest: Ingest = option(Table(of=Ingest), default=Ingest(), help="")
    log: Log = option(Table(of=Log), default=Log(), help="")

    @property
    def venue_feeds(self) -> tuple[str, ...]:
        """The feeds that venues may speak at: all but ``bars.feed``, unless it is the only one.

        That one is our own maker's; it is a venue's too where ``routing.upstreams`` says so.
        """
        return tuple(name for name in self.feeds if name != self.bars.feed) or tuple(self.feeds)

    def upstream_for(self, venue: str, data_type: str) -> Upstream:
        """The feed that a venue's data type comes from: the rule of the wire, design 5.

        ``VENUE:DATA_TYPE`` decides; TRADE and ORDERBOOK fall back to ``VENUE``, then to
        ``default``. Where no upstream is given at all and venues have one feed, it is that.
        Anything else raises SettingsError with the key that is missing.
        """
        upstreams = self.routing.upstreams
        key = upstream_key(upstreams, venue, data_type)
        if key is not None:
            return Upstream(feed=upstreams[key], key=key)
        if not upstreams and len(self.venue_feeds) == 1:
            return Upstream(feed=self.venue_feeds[0], key=None)
        missing = dotted(("routing", "upstreams", f"{venue}:{data_type}"))
        raise SettingsError(
            [f"{missing}: found nothing; allowed: one of {', '.join(self.venue_feeds)}"]
        )

    def port_of(self, service: str, purpose: str) -> Port:
        """The port of a service of ours; there is one for each purpose it has."""
        return next(p for p in self.ports() if (p.service, p.purpose) == (service, purpose))

    def ports(self) -> tuple[Port, ...]:
        """Every port of this machine that the settings give to a service of ours."""
        ports = list(self.server.ports())
        for name, feed in self.feeds.items():
            if feed.bound_port is not None and feed.bound_host is not None:
                ports.append(
                    Port(
                        service=f"feed {name}",
                        purpose="frames",
                        host=feed.bound_host,
                        number=feed.bound_port,
                        key=f"feeds.{name}.endpoint",
                    )
                )
        if self.timescale.url.embedded and self.embedded.port is not None:
            ports.append(
                Port(
                    service="embedded",
                    purpose="database",
                    host="127.0.0.1",
                    number=self.embedded.port,
                    key="embedded.port",
                )
            )
        return tuple(ports)
