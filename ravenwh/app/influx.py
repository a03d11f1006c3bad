"""Where ticks wait: the InfluxDB of the settings, while it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Settings
from ravenwh.staging.reading import Ticks
from ravenwh.staging.server import Server

__all__ = ["ticks_of"]


@contextlib.contextmanager
def ticks_of(settings: Settings) -> Iterator[Ticks]:
    """The ticks of the bucket; its connections are given back at the end.

    Raises SettingsError where nobody said how to get in.
    """
    if not settings.influx.is_configured:
        raise SettingsError(
            [
                "influx.token: found nothing; allowed: a token that may read the bucket "
                f'"{settings.influx.bucket}" at {settings.influx.url}, there, in '
                "influx.token_file, or in RAVENWH_INFLUX_TOKEN"
            ]
        )
    with contextlib.closing(Server(settings=settings.influx)) as server:
        yield Ticks(server=server)
