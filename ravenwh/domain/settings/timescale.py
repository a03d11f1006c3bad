"""Where the warehouse is: a server of its own, or the one that ravenwh starts."""

# ruff: noqa: RUF009  # option() and optional() give attrs fields, as attrs.field() does
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import attrs

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings.database_url import DatabaseAddress, DatabaseUrl, Driver
from ravenwh.domain.settings.kinds import Choice, FilePath, Hidden, Number, Text, Whole
from ravenwh.domain.settings.option import Named, Rule, Section, Table, option, optional
from ravenwh.domain.settings.policies import RELATION, PolicyTimes
from ravenwh.domain.settings.problem import Problem
from ravenwh.domain.settings.secret import Secret

__all__ = ["Embedded", "Timescale"]


def _one_password(url: DatabaseUrl, password: Secret | None) -> Iterator[Problem]:
    if password is not None and url.embedded:
        text = 'found one, with timescale.url "embedded"; allowed: none, that server has its own'
        yield Problem(path=("password",), text=text)
    elif password is not None and url.has_password:
        text = "found one, and another in timescale.url; allowed: one of them"
        yield Problem(path=("password",), text=text)


@attrs.frozen(kw_only=True)
class Timescale(Section):
    """The warehouse: PostgreSQL, with TimescaleDB where there is one."""

    RULES: ClassVar[tuple[Rule, ...]] = (Rule(keys=("url", "password"), check=_one_password),)

    url: DatabaseUrl = option(
        DatabaseAddress(),
        default=DatabaseUrl("embedded"),
        help="Where the database is; embedded starts one in the data folder of the user. "
        "A password in it is shown as ***.",
        example="postgresql://ravenwh@127.0.0.1:5432/market",
    )
    password: Secret | None = optional(
        Hidden(),
        absent="as the url says",
        help="The password of the url's user.",
        example="a password",
    )
    schema: str = option(
        Text(
            pattern=r"(?!(public|information_schema)$|pg_|_?timescaledb)[a-z_][a-z0-9_]{0,40}",
            rule="1 to 41 small letters, digits and underscores, no digit first, and none of "
            "public, information_schema, pg_*, timescaledb*, _timescaledb*",
        ),
        default="mart",
        help="The schema that holds the tables.",
    )
    engine: Literal["auto", "community", "none", "citus"] = option(
        Choice(words=("auto", "community", "none", "citus")),
        default="auto",
        help="The level that must be there; auto takes what it finds. community is TimescaleDB "
        "under its own licence, none is PostgreSQL alone.",
    )
    policies: Mapping[str, PolicyTimes] = option(
        Named(name=RELATION, item=Table(of=PolicyTimes)),
        default=MappingProxyType({}),
        help="Other times of policies than the models declare, by table or rollup; written by "
        "ravenwh policies apply, and by runners.init.",
        example={
            "fact__kline": {"retention": "400 days", "columnstore_after": "30 days"},
            "agg__kline_1h": {"refresh_start": "3 days"},
        },
    )

    refresh_due_every_s: float = option(
        Number(least=1, most=86_400),
        default=300.0,
        unit="seconds",
        help="How often the kline runner refreshes the rollups of days whose rows changed behind "
        "their refresh policies.",
    )

    @property
    def policy_times(self) -> dict[str, Mapping[str, str | None]]:
        """The times of ``policies`` that are given; None where there is to be no such policy."""
        return {name: times.given for name, times in self.policies.items()}

    def address(self, *, driver: Driver = "postgresql+asyncpg") -> str:
        """The whole address with the password as it is now, for a driver and never for a log.

        ``driver="postgresql"`` is the form of libpq and ADBC. Raises SettingsError where the server
        is embedded, as its launcher alone knows the address.
        """
        if self.url.embedded:
            text = 'timescale.url: found "embedded"; allowed here: an address of PostgreSQL'
            raise SettingsError([text])
        return self.url.reveal(self.password, driver=driver)


@attrs.frozen(kw_only=True)
class Embedded(Section):
    """The PostgreSQL that ravenwh starts itself, where timescale.url is "embedded"."""

    data_dir: Path | None = optional(
        FilePath(rule="a folder; it is made if need be"),
        absent="/var/lib/ravenwh for root, else the data folder of the user",
        help="Where it keeps its data.",
        example="/srv/ravenwh/pg",
    )
    bin_dir: Path | None = optional(
        FilePath(rule="a folder that holds postgres and initdb"),
        absent="the server that was installed with ravenwh",
        help="Whose programs to run instead.",
        example="/usr/lib/postgresql/18/bin",
    )
    port: int | None = optional(
        Whole(least=1, most=65535),
        absent="a free one at each start",
        help="Its port on 127.0.0.1.",
        example=5433,
    )
