"""The publisher of the numbers, as a process: ``python -m tests.chaos.publisher``.

It tells ``epoch NUMBER`` at first, and sends numbers until it reads ``enough`` from its input and
has come to its ``--end``; then it tells ``done NUMBER``, and goes on answering control requests
until it is ended by ``end``. After each other word that it reads it tells ``at NUMBER``, the next
one: ``where``, ``pause``, ``go``, and ``die``, after which it kills itself between two numbers, so
that it is known how many it had sent.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time

from loguru import logger

from ravenwh.feed.control_server import ControlServer
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher
from ravenwh.feed.resending import resend_handlers
from tests.chaos.numbers import TOPICS, kline

TICK_S = 0.02


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Sending:
    """Sends numbers at a rate, at least up to an end, unless it is told to pause."""

    def __init__(self, publisher: Publisher, first: int, end: int, rate: float) -> None:
        self.publisher, self.first, self.end, self.rate = publisher, first, end, rate
        self.is_enough = False
        self.goes = asyncio.Event()
        self.goes.set()

    @property
    def at(self) -> int:
        """The next number."""
        return self.first + self.publisher.sent

    @property
    def has_more(self) -> bool:
        """Whether the next one is to be sent."""
        return not self.is_enough or self.at < self.end

    async def run(self) -> None:
        began, first = time.monotonic(), self.at
        while self.has_more:
            if not self.goes.is_set():
                await self.goes.wait()
                began, first = time.monotonic(), self.at
            due = first + 1 + int((time.monotonic() - began) * self.rate)
            while self.at < due and self.has_more and self.goes.is_set():
                await self.publisher.publish(kline(self.at))
            await asyncio.sleep(TICK_S)
        tell("done", self.at)


async def obey(sending: Sending) -> None:
    """Read what is said until the end of it."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        match line.strip():
            case b"pause":
                sending.goes.clear()
            case b"go":
                sending.goes.set()
            case b"enough":
                sending.is_enough = True
            case b"die":
                tell("at", sending.at)
                os.kill(os.getpid(), signal.SIGKILL)
            case b"end":
                break
        await asyncio.sleep(2 * TICK_S)  # a number that is being sent is sent
        tell("at", sending.at)
    transport.close()


async def main(options: argparse.Namespace) -> None:
    endpoint = Endpoint(address=options.endpoint, mode="bind")
    async with Publisher(endpoint=endpoint, ring_bytes=options.ring_bytes) as publisher:
        if options.wait:
            await publisher.wait_for_subscribers(TOPICS, timeout_s=60)
        control = Endpoint(address=options.control, mode="bind")
        with ControlServer(endpoint=control, handlers=resend_handlers(publisher)) as server:
            sending = Sending(publisher, options.first, options.end, options.rate)
            tell("epoch", publisher.epoch)
            tasks = [asyncio.create_task(server.serve()), asyncio.create_task(sending.run())]
            await obey(sending)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--control", required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--end", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--ring-bytes", type=int, required=True)
    parser.add_argument("--wait", action="store_true")
    logger.disable("ravenwh")
    asyncio.run(main(parser.parse_args()))
