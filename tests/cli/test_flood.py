"""Many log lines of one name: the first are written, the rest counted and told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import attrs
import pytest
from loguru import logger

from ravenwh.cli.flood import NAMES, Flood
from ravenwh.cli.terminal import configure_log
from ravenwh.domain.settings import Log


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@attrs.define
class Bench:
    """A log with such a filter, a clock of the test's, and what was written."""

    clock: Clock = attrs.field(factory=Clock)
    lines: list[str] = attrs.field(factory=list)

    def told(self, name: str) -> list[str]:
        return [line for line in self.lines if line.startswith(name)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    handler = logger.add(
        lambda line: made.lines.append(str(line)),
        format="{message} {extra}",
        filter=Flood(lines=3, window_s=60.0, clock=made.clock),
        catch=False,
    )
    yield made
    logger.remove(handler)


def test_lines_beyond_the_limit_are_counted_and_told_with_the_next_one(bench: Bench) -> None:
    for _ in range(10):
        logger.bind(n=1).warning("SOME_NAME")
    assert len(bench.told("SOME_NAME")) == 3
    bench.clock.now = 59.9
    logger.warning("SOME_NAME")
    assert len(bench.told("SOME_NAME")) == 3
    bench.clock.now = 60.0
    logger.bind(n=2).warning("SOME_NAME")
    assert bench.lines[-1] == "SOME_NAME {'n': 2, 'suppressed': 8}\n"
    logger.warning("SOME_NAME")
    assert bench.lines[-1] == "SOME_NAME {}\n"


def test_names_do_not_count_for_each_other_and_information_is_not_limited(bench: Bench) -> None:
    for _ in range(10):
        logger.error("SOME_NAME")
        logger.warning("OTHER_NAME")
        logger.info("BATCH_DONE")
    assert [len(bench.told(n)) for n in ("SOME_NAME", "OTHER_NAME", "BATCH_DONE")] == [3, 3, 10]


def test_a_flood_that_has_ended_is_told_with_any_other_line(bench: Bench) -> None:
    for _ in range(10):
        logger.error("SOME_NAME")
    bench.clock.now = 61.0
    logger.info("BATCH_DONE")
    assert bench.lines[-2:] == [
        "LINES_SUPPRESSED {'event': 'SOME_NAME', 'suppressed': 7}\n",
        "BATCH_DONE {}\n",
    ]
    bench.clock.now = 200.0
    logger.info("BATCH_DONE")
    assert bench.lines[-1] == "BATCH_DONE {}\n"
    assert len(bench.told("LINES_SUPPRESSED")) == 1


def test_names_without_end_fill_no_memory(bench: Bench) -> None:
    for number in range(NAMES + 50):
        logger.warning(f"NAME_{number}")
    assert len(bench.lines) == NAMES + 50


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_of_a_program_is_limited(form: str) -> None:
    lines: list[str] = []
    configure_log(Log(format=form), write=lines.append)  # type: ignore[arg-type]  # one of the two
    try:
        for _ in range(1000):
            logger.bind(feed="f").warning("SOME_NAME")
    finally:
        logger.remove()
    assert len(lines) == 60
    if form == "json":
        assert json.loads(lines[0])["record"]["message"] == "SOME_NAME"
    else:
        assert re.match(r"\S+Z WARNING SOME_NAME feed='f'\n", lines[0])
