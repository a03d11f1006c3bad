"""A raven publisher for tests, at the end that the runners connect to."""

from __future__ import annotations

from collections.abc import Sequence

from ravenwh.domain.messages import Candle
from ravenwh.feed import wire
from ravenwh.feed.endpoint import Endpoint
from ravenwh.feed.publisher import Publisher


async def publish_to(endpoint: str, klines: Sequence[Candle]) -> None:
    """Publish klines to a runner, and return when all of them are on their way to it.

    Which is not yet there: ``Runner.received`` and ``Runner.settled`` wait for that.
    """
    async with Publisher(endpoint=Endpoint(address=endpoint, mode="bind")) as publisher:
        topics = {wire.topic(k.venue, "CANDLE", k.symbol) for k in klines}
        await publisher.wait_for_subscribers(topics, timeout_s=60)
        for kline in klines:
            await publisher.publish(kline)
        await publisher.close(linger_s=60)
