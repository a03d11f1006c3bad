"""The publisher of the numbers, as a process: ``python -m tests.chaos.publisher``.

It reads ``pause``, ``go`` and ``end`` from its input, and tells on its output ``at NUMBER`` (the
next one) after each of them, ``epoch NUMBER`` at first, and ``done`` when all are sent. It goes on
answering control requests until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
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
    """Sends from one number to another at a rate, unless it is told to pause."""

    def __init__(self, publisher: Publisher, first: int, end: int, rate: float) -> None:
        self.publisher, self.at, self.end, self.rate = publisher, first, end, rate
        self.goes = asyncio.Event()
        self.goes.set()

    async def run(self) -> None:
        began, first = time.monotonic(), self.at
        while self.at < self.end:
            if not self.goes.is_set():
                await self.goes.wait()
                began, first = time.monotonic(), self.at
            due = min(self.end, first + 1 + int((time.monotonic() - began) * self.rate))
            while self.at < due and self.goes.is_set():
                await self.publisher.publish(kline(self.at))
                self.at += 1
            await asyncio.sleep(TICK_S)
        tell("done")


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
