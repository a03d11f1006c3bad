"""``make chaos``: the long storm and a million frames of garbage, and a page that reports them.

    python -m tests.chaos.run [--page docs/chaos.md] [--seed 2] [--only storm]

It takes about a quarter of an hour, and ends with code 1 where anything is not as promised.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import attrs
from loguru import logger

from tests.chaos.bare import Bare, on_a_bare_wire
from tests.chaos.fuzz import (
    DEAD_BYTES,
    JOURNAL_BYTES,
    LOG_BYTES,
    MOST_FILE,
    MOST_WAL,
    Flooded,
    decoded,
    flooded,
    resident,
)
from tests.chaos.parts import SPACE_MB, database, folder_on_disk
from tests.chaos.storm import AWAY, LONG, SHORT, Report, bereft, outrun, storm
from tests.conftest import migrate
from tests.programs import free_ports
from tests.servers import throw_away_server

MIB = 2**20
MILLION = 1_000_000


@attrs.define
class Page:
    """What is told, and whether all of it is as promised."""

    lines: list[str] = attrs.field(factory=list)
    wrong: list[str] = attrs.field(factory=list)

    def say(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)  # noqa: T201  # it is a program

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)
            self.say(f"**NOT AS PROMISED**: {what}")


async def tell_storm(page: Page, seed: int) -> None:
    """The storm on the raven wire."""
    plan = attrs.evolve(LONG, seed=seed)
    report = await storm(plan)
    what = ", ".join(f"`{name} = {value}`" for name, value in report.durability.items())
    page.say(
        "",
        "## The storm",
        "",
        f"{report.sent:,} numbered klines of 10 topics, {plan.rate:g} a second, on the raven wire "
        "with resend, into a PostgreSQL on a disk",
        f"({what}). The runner takes its feed, the",
        "publisher's control endpoint and its database through TCP proxies. Seed "
        f"{plan.seed}; {report.seconds:,.0f} s.",
        "",
        *WITHOUT_TIMESCALEDB,
        "",
        *(ON_TMPFS if report.disk_was_full else ALL_ON_DISK),
        "",
        "| after | what happened |",
        "|---|---|",
        *(f"| {at:,.0f} s | {event} |" for at, event in report.events),
        "",
        *outcome(report),
    )
    page.require(not report.wrong, "; ".join(report.wrong))
    page.require(report.written == report.sent >= plan.numbers, "not all are in the table")
    page.require(
        len(report.terminated) == plan.rounds and all(report.terminated),
        "no connection was terminated",
    )
    page.require(
        not report.disk_was_full or (len(report.refusals) == plan.rounds and all(report.refusals)),
        "the runner was never told that the disk was full",
    )
    page.require(report.imbalances == 0, "the counts did not add up")
    page.require(AWAY in report.unready, "it was ready while the database was away")
    page.require(report.most_bytes < 200 * MIB, "it took more than 200 MiB of memory")
    keep_log(page, report)


async def tell_bereft(page: Page, seed: int) -> None:
    """Publishers that die with what nobody has taken."""
    plan = attrs.evolve(LONG, numbers=20_000, rounds=3, seed=seed)
    report = await bereft(plan)
    page.say(
        "",
        "## Publishers that die",
        "",
        f"{report.sent:,} numbers, {plan.rate:g} a second, on the same wire and into the same "
        "database, which is left in peace.",
        "",
        "| after | what happened |",
        "|---|---|",
        *(f"| {at:,.0f} s | {event} |" for at, event in report.events),
        "",
        *outcome(report),
        "",
        *LAST_WORDS,
    )
    page.require(not report.wrong, "; ".join(report.wrong))
    page.require(
        report.written + report.missing + report.unseen == report.sent >= plan.numbers,
        "the numbers are not accounted for",
    )
    page.require(report.missing_needlessly == 0, "messages are missing that could be sent again")
    page.require(report.missing > 0, "no publisher died while a gap was open")
    page.require(report.unseen > 0, "no publisher died with what nobody had taken")
    page.require(report.imbalances == 0, "the counts did not add up")
    keep_log(page, report)


def keep_log(page: Page, report: Report) -> None:
    """Where something went wrong, what the runners said of it is needed."""
    if page.wrong:
        with tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as kept:
            kept.write(report.log)
        page.say("", f"What the runners logged is in `{kept.name}`.")


def outcome(report: Report) -> list[str]:
    """The rows of a table."""
    return [
        "| afterwards | |",
        "|---|---|",
        f"| numbers in the table, once each | {report.written:,} |",
        f"| numbers in `ops__feed_gap`, once each | {report.missing:,}, in {report.gaps} rows |",
        f"| numbers that a killed publisher took with it, unseen | {report.unseen:,} |",
        f"| others that are nowhere, in both, or twice | {'; '.join(report.wrong) or 'none'} |",
        f"| all had arrived after the last was sent | {report.settled_s:.1f} s |",
        f"| scrapes of `/metrics`; those whose counts did not add up | {report.scrapes:,}; "
        f"{report.imbalances} |",
        f"| what `/readyz` complained of | {', '.join(report.unready) or 'nothing'} |",
        f"| the most memory that a runner took | {report.most_bytes / MIB:.0f} MiB |",
    ]


async def tell_outrun(page: Page, seed: int) -> None:
    """The ring is outrun."""
    plan = attrs.evolve(SHORT, numbers=40_000, rate=1_000.0, down_s=10.0, settle_s=120.0, seed=seed)
    report = await outrun(plan, ring_bytes=1 << 20)
    page.say(
        "",
        "## Down for longer than the ring",
        "",
        f"{report.sent:,} numbers, {plan.rate:,g} a second; the ring holds 1 MiB, which is about "
        f"three seconds; the runner is killed, and down for {plan.down_s:g} s.",
        "",
        *outcome(report),
    )
    page.require(not report.wrong, "; ".join(report.wrong))
    page.require(report.missing > 1_000, "the ring was not outrun")
    page.require(report.written + report.missing == report.sent, "numbers are not accounted for")
    page.require(report.imbalances == 0, "the counts did not add up")
    keep_log(page, report)


async def tell_bare(page: Page, seed: int) -> None:
    """The wire without numbers."""
    with closing(free_ports()) as free, folder_on_disk() as folder:
        postgres = next(free)
        free.close()
        async with database(folder, postgres) as base:
            found: Bare = await on_a_bare_wire(
                folder,
                base.server.url,
                seed=seed,
                klines=6_000,
                rate=60.0,
                kills=4,
                down_s=8.0,
                up_s=17.0,
            )
    page.say(
        "",
        "## A wire without numbers",
        "",
        f"{found.sent:,} klines in cryptofeed's frames from a PUB socket, which drops what nobody "
        f"takes; the runner was killed {found.kills} times, and was down for up to 8 s.",
        "What was sent before its first start cannot be seen to be missing.",
        "",
        "| afterwards | |",
        "|---|---|",
        f"| klines in the table, once each | {found.written:,} |",
        f"| minutes that can be seen to be missing | {found.visible:,} |",
        f"| of them in `ops__feed_gap`, once each | {found.noted:,}, in {found.gaps} rows |",
        f"| what is not as it should be | {'; '.join(found.wrong) or 'nothing'} |",
        f"| scrapes of `/metrics`; those whose counts did not add up | {found.scrapes:,}; "
        f"{found.imbalances} |",
    )
    page.require(not found.wrong, "; ".join(found.wrong))
    page.require(found.visible > 100, "nothing was lost")
    page.require(found.noted == found.visible, "a loss that can be seen is not noted")
    page.require(found.imbalances == 0, "the counts did not add up")


async def tell_fuzz(page: Page, seed: int) -> None:
    """Garbage."""
    decoded(20_000, seed)
    before, began = resident(os.getpid()), time.monotonic()
    outcomes = await asyncio.to_thread(decoded, MILLION // 2, seed + 1)
    grown = (resident(os.getpid()) - before) / MIB
    told = ", ".join(f"{name} {count:,}" for name, count in outcomes.most_common())
    page.say(
        "",
        "## Garbage",
        "",
        f"{outcomes.total():,} mutated frames, half of them of each wire and none the same as "
        f"before, through the decoders and the values of rows: {told}; no other error;",
        f"{time.monotonic() - began:.0f} s; memory grew by {max(0, grown):.0f} MiB.",
    )
    page.require(grown < 30, "the memory of the decoders grew")
    with (
        throw_away_server() as server,
        server.fresh_database() as name,
        tempfile.TemporaryDirectory() as folder,
    ):
        await asyncio.to_thread(migrate, server.url(name))
        found: Flooded = await flooded(
            Path(folder),
            server.url(name),
            server.url(name, driver=""),
            count=MILLION,
            seed=seed,
        )
    page.say(
        "",
        f"{found.mutated:,} mutated frames and {found.good:,} good klines among them, half of them "
        "of each wire, at a runner over its two sockets,",
        f"as fast as it takes them ({found.seconds:.0f} s), with `journal.max_bytes` at "
        f"{JOURNAL_BYTES // MIB} MiB and `journal.max_dead_bytes` at {DEAD_BYTES // MIB} MiB:",
        "",
        "| afterwards | |",
        "|---|---|",
        f"| received, and counted as lost | {found.received:,}; {found.lost} |",
        f"| by how much its counts do not add up | {found.imbalance} |",
        f"| dead letters; bytes that are kept of them | {found.dead:,}; "
        f"{found.dead_letter_bytes:,} |",
        f"| good klines among them; in the table | {found.good:,}; {found.written_good:,} |",
        f"| memory in the first half; in the second | {found.bytes_early / MIB:.0f} MiB; "
        f"{found.bytes_late / MIB:.0f} MiB |",
        "| the largest that the file of the journal was; it may be "
        f"| {found.journal_bytes / MIB:.0f} MiB; {MOST_FILE / MIB:.0f} MiB, of which "
        f"{(MOST_FILE - JOURNAL_BYTES - DEAD_BYTES) // MIB} are for topics, gaps and half-full "
        "pages |",
        "| the largest that its write-ahead log was; it may be "
        f"| {found.wal_bytes / MIB:.0f} MiB; {MOST_WAL / MIB:.0f} MiB |",
        f"| bytes of log; there may be | {found.log_bytes:,}; {LOG_BYTES:,} |",
        "| lines of the warning that was told most often; there may be 60 a minute "
        f"| {found.most_lines}; {found.allowed_lines} |",
        f"| rows in `ops__feed_gap`, from garbled numbers | {found.gap_rows:,} |",
    )
    page.require(
        found.received + found.lost == found.mutated + found.good, "frames are not accounted for"
    )
    page.require(found.imbalance == 0, "the counts did not add up")
    page.require(found.journal_bytes <= MOST_FILE, "the file of the journal grew beyond its bound")
    page.require(found.wal_bytes <= MOST_WAL, "the write-ahead log grew beyond its bound")
    page.require(found.log_bytes <= LOG_BYTES, "the log grew beyond its bound")
    page.require(found.most_lines <= found.allowed_lines, "a warning was told too often")
    page.require(found.written_good == found.good, "good frames were lost in the flood")
    page.require(found.bytes_late < 200 * MIB, "it took more than 200 MiB of memory")
    page.require(found.bytes_late < 1.25 * found.bytes_early, "memory was not flat")


PARTS: dict[str, Callable[[Page, int], Awaitable[None]]] = {
    "storm": tell_storm,
    "bereft": tell_bereft,
    "outrun": tell_outrun,
    "bare": tell_bare,
    "fuzz": tell_fuzz,
}

HEAD = """\
# What was survived

`make chaos` hurts a runner, its database, its publisher and the ways between them, counts
afterwards, and writes this page. `make test` does the same with fewer numbers. The figures are of
two shared cores of an AMD EPYC, 24 GiB, Debian 12, all processes on these two cores."""

WITHOUT_TIMESCALEDB = (
    "The database is the embedded PostgreSQL, a plain one without TimescaleDB: it comes with the",
    "checkout, so everybody can repeat the run, and its tables can be moved to a disk that is then",
    "made full. Hypertables, columnstore and continuous aggregates have tests on servers with",
    "TimescaleDB, but no storm has gone over them.",
)

ON_TMPFS = (
    f"`fact__kline` and its indexes lie on a tmpfs of {SPACE_MB} MiB, because that can be made "
    "full without harm to the",
    "machine; all else of the server, its write-ahead log too, is on a disk. What is killed are",
    "processes: the kernel keeps a tmpfs as it keeps what was written to a disk. Nobody pulled the",
    "plug of the machine.",
)

ALL_ON_DISK = (
    "All of the server is on a disk, and that was not made full: only root can mount a small one.",
)

LAST_WORDS = (
    "A publisher that is killed takes its ring with it, and what nobody had taken is lost. Where a",
    "later number of its topic had arrived, that one shows it, and it stands in `ops__feed_gap`.",
    "Where none had, nobody can know of it. Those are counted here, because it is known how many",
    "numbers the publisher had sent. They must be the last ones of a topic, sent after what was in",
    "the table when the harm began, and each earlier one is in the table or in `ops__feed_gap`.",
    "See [what is not promised](why/gaps.md#what-is-not-promised).",
)


async def main(options: argparse.Namespace) -> int:
    page = Page()
    page.say(HEAD)
    for name, part in PARTS.items():
        if options.only in (None, name):
            await part(page, options.seed)
    if options.page is not None and options.only is None:
        options.page.write_text("\n".join(page.lines) + "\n")
    return 1 if page.wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--only", choices=PARTS)
    logger.disable("ravenwh")
    sys.exit(asyncio.run(main(parser.parse_args())))
