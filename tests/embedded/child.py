"""A process of its own that uses the embedded PostgreSQL as it is told, line by line.

Started with one JSON object: ``uid`` to become first (null to stay), and the arguments of
EmbeddedPostgres. Each line in names a command; each line out is a JSON object with its result or
with the error's class and text. At the end of its input it ends as any program does.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from pathlib import Path

import psycopg  # before the change of the user, who may not be able to read the environment

from ravenwh.domain.errors import RavenwhError
from ravenwh.embedded import EmbeddedPostgres, default_root


def say(**words: object) -> None:
    sys.stdout.write(f"{json.dumps(words)}\n")
    sys.stdout.flush()


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def commit(server: EmbeddedPostgres) -> None:
    """Commit numbered rows until killed, saying each number once the server acknowledged it."""
    with psycopg.connect(server.libpq_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS acknowledged (number int PRIMARY KEY)")
        for number in range(1_000_000):
            try:
                connection.execute("INSERT INTO acknowledged VALUES (%s)", (number,))
            except psycopg.OperationalError:
                sys.exit(1)
            say(number=number)


def busy(server: EmbeddedPostgres) -> None:
    """Say the pid of a backend that does not look up from its work, and wait for it."""
    with psycopg.connect(server.libpq_url, autocommit=True) as connection:
        say(pid=connection.info.backend_pid)
        with contextlib.suppress(psycopg.OperationalError):
            connection.execute("SELECT count(*) FROM generate_series(1, 1000000000000::int8)")


def fork_and_stop(server: EmbeddedPostgres) -> None:
    """Let a forked child, which outlives this command, stop what it did not start."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.write(write, json.dumps(server.stop()).encode())
        os.close(write)
        signal.pause()
    os.close(write)
    with os.fdopen(read) as answer:
        say(stopped=json.loads(answer.read()), pid=child)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    uid = arguments.pop("uid")
    if uid is not None:
        become(uid)
    for name in {"root", "bin_dir"} & arguments.keys():
        arguments[name] = arguments[name] and Path(arguments[name])
    server = EmbeddedPostgres(**{"root": default_root()} | arguments)
    for line in sys.stdin:
        try:
            match line.split():
                case ["start", *pin]:
                    server.start(pin=bool(pin))
                    found = server.status()
                    say(pid=found.pid, port=found.port, url=server.libpq_url)
                case ["stop"]:
                    say(stopped=server.stop())
                case ["destroy"]:
                    say(destroyed=server.destroy())
                case ["root"]:
                    say(root=str(server.root))
                case ["limit", size]:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
                    say(size=size)
                case ["commit"]:
                    commit(server)
                case ["busy"]:
                    busy(server)
                case ["fork"]:
                    fork_and_stop(server)
        except RavenwhError as error:
            say(error=type(error).__name__, text=str(error))


if __name__ == "__main__":
    main()
