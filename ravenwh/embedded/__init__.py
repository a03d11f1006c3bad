"""A PostgreSQL of our own: no installation, no password to invent, one folder, shared by processes.

Owns one root folder with a data folder, its password and its locks, and the server on it. Offers
:class:`EmbeddedPostgres` (start, url, stop, status, shut down, destroy), :func:`default_root` and
:func:`bin_dir`. All of it is synchronous; from asyncio call it in a thread.

Promises. Every process that started it counts as a user, and the last one to stop ends the
server, unless it is pinned. Who uses it and whether it lives is told by kernel locks, which end
with their process, so a killed user, a killed server, a left-over pid file or a reused pid
mislead nobody. A data folder is made aside and renamed into place whole. In durable mode every
acknowledged commit survives a kill of every process. The server listens on 127.0.0.1 alone, asks
for a password, and never runs as root.

Fails with Unavailable where a wait or a person may mend it, with Refused where something else
must be asked for, with SettingsError for a wrong ``embedded.bin_dir``. Tested against real
servers: as root, as an ordinary user, with kills at each step, with another major version.
"""

from ravenwh.embedded.binaries import bin_dir
from ravenwh.embedded.layout import default_root
from ravenwh.embedded.server import EmbeddedPostgres
from ravenwh.embedded.status import Status

__all__ = ["EmbeddedPostgres", "Status", "bin_dir", "default_root"]
