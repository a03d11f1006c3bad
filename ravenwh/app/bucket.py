"""The bucket of the settings: made by init, looked at by doctor, and watched by the tick runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing

import attrs
from loguru import logger

from ravenwh.domain.finding import Finding
from ravenwh.domain.settings import Settings
from ravenwh.staging.bucket import look_at_bucket
from ravenwh.staging.server import Server

__all__ = ["BucketWatch", "ask_bucket"]

LOOK_EVERY_S = 5.0


async def ask_bucket(settings: Settings, ask: Callable[[Server], Finding]) -> Finding | None:
    """What comes of asking the server; None where the settings have no token for it."""
    if not settings.influx.is_configured:
        return None
    with closing(Server(settings=settings.influx)) as server:
        return await asyncio.to_thread(ask, server)


@attrs.define(kw_only=True)
class BucketWatch:
    """Looks at the bucket now and then, so that readiness is true of an idle runner too.

    ``trouble`` is why it takes no points, as far as that is known; None where it does.
    """

    settings: Settings
    trouble: str | None = attrs.field(default="starting: InfluxDB is looked for", init=False)
    _is_told: bool = attrs.field(default=False, init=False)

    async def keep_looking(self) -> None:
        """Until cancelled."""
        with closing(Server(settings=self.settings.influx, timeout_s=LOOK_EVERY_S)) as server:
            while True:
                self._tell(await asyncio.to_thread(look_at_bucket, server))
                await asyncio.sleep(LOOK_EVERY_S)

    def _tell(self, found: Finding) -> None:
        if found.fatal and not self._is_told:
            logger.bind(reason=found.found).warning("SINK_UNAVAILABLE")
        self._is_told = found.fatal
        self.trouble = f"{found.found}; {found.remedy}" if found.fatal else None
