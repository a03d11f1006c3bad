"""``ravenwh.connect()`` as people use it: a password that changes, and no word on the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

import ravenwh
from ravenwh.domain.errors import Unavailable, UnknownName
from tests.conftest import ROOT
from tests.programs import Programs


def use(owner: psycopg.Connection[tuple[object, ...]], password: str) -> None:
    """Give the role another password, and end its connections."""
    owner.execute(sql.SQL("ALTER ROLE reader PASSWORD {}").format(password))
    owner.execute(
        "SELECT pg_terminate_backend(pid, 60_000) FROM pg_stat_activity WHERE usename = 'reader'"
    )


def test_a_rotated_password_is_read_again(tmp_path: Path, mart_url: str) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    server = sa.make_url(mart_url)
    address = f"postgresql://reader@{server.host}:{server.port}/{server.database}"
    settings = f'timescale.url = "{address}"\ntimescale.password_file = "password"'
    config = Programs(folder=tmp_path).configure(settings).settings_file
    with psycopg.connect(mart_url.replace("+asyncpg", ""), autocommit=True) as owner:
        owner.execute("CREATE ROLE reader LOGIN PASSWORD 'first'")
        owner.execute("GRANT USAGE ON SCHEMA mart TO reader")
        owner.execute("GRANT SELECT ON ALL TABLES IN SCHEMA mart TO reader")
        try:
            with ravenwh.connect(config) as wh:
                frames = wh.klines("BTC", "USDT", "BINANCE_SPOT", "1m")
                with pytest.raises(UnknownName):  # which means that it can read
                    frames.arrow()
                use(owner, "second")
                with pytest.raises(Unavailable):  # the connection was cut
                    frames.arrow()
                with pytest.raises(Unavailable, match="password authentication failed") as caught:
                    frames.arrow()
                assert caught.value.needs_person
                secret.write_text("second\n")
                with pytest.raises(UnknownName):
                    frames.arrow()
        finally:
            owner.execute("DROP OWNED BY reader")
            owner.execute("DROP ROLE reader")


PROGRAM = """
import sys
import ravenwh
assert "loguru" not in sys.modules, "importing costs next to nothing"
ravenwh.connect
from loguru import logger
for line in sys.argv[1:]:
    exec(line)
import ravenwh.ingest.backoff as ours
exec('logger.info("SAID")', vars(ours))
"""


@pytest.mark.parametrize(("line", "heard"), [("pass", False), ('logger.enable("ravenwh")', True)])
def test_a_library_is_silent_until_it_is_asked_to_speak(line: str, heard: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, line], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert ("SAID" in done.stderr) is heard
