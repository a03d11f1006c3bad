"""Where ticks wait: the InfluxDB of the settings, while it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings import Settings
from ravenwh.staging.reading import Ticks
from ravenwh.staging.server import Server

__all__ = ["require_token", "ticks_of"]


@contextlib.contextmanager
def ticks_of(settings: Settings) -> Iterator[Ticks]:
    """The ticks of the bucket; its connections are given back at the end.

    Raises SettingsError where nobody said how to get in.
    """
    require_token(settings, "read")
    with contextlib.closing(Server(settings=settings.influx)) as server:
        yield Ticks(server=server)


def require_token(settings: Settings, what_for: str) -> None:
    """Raise SettingsError where there is no token, with what it must allow."""
    if not settings.influx.is_configured:
        raise SettingsError(
            [
                f"influx.token: found nothing; allowed: a token that may {what_for} the bucket "
                f'"{settings.influx.bucket}" at {settings.influx.url}, there, in '
                "influx.token_file, or in RAVENWH_INFLUX_TOKEN"
            ]
        )
