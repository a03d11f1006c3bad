"""A TCP port of 127.0.0.1 to listen on."""

from __future__ import annotations

import random
import socket

from ravenwh.domain.errors import Unavailable

__all__ = ["HOST", "choose_port", "is_bindable"]

HOST = "127.0.0.1"

# Below the range that systems take the ports of outgoing connections from: those come and go, and
# a client that tries again and again to reach a port of that range may end up connected to itself.
FIRST, LAST = 20_000, 31_999
TRIES = 100


def is_bindable(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as PostgreSQL does: connections that are only fading out are not in the way
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose_port(*, wanted: int | None, last: int | None) -> int:
    """The port of the settings, else the one of the last time if free, else any free one.

    To keep the port over restarts lets clients find a server again that was killed. Raises
    Unavailable where the wanted port is taken, which only a person can solve.
    """
    if wanted is not None:
        if is_bindable(wanted):
            return wanted
        raise Unavailable(
            f"embedded.port: found {wanted}, where another program listens on {HOST} already (or "
            "this user may not listen); end that program, set another port, or leave embedded.port "
            "out for a free one",
            needs_person=True,
        )
    if last is not None and is_bindable(last):
        return last
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST)  # noqa: S311 - to avoid others, not to hide
        if is_bindable(port):
            return port
    raise Unavailable(
        f"no free port was found on {HOST} in {TRIES} tries between {FIRST} and {LAST}; set one in "
        "embedded.port",
        needs_person=True,
    )
