"""Secrets: from files, read again when rotated, and never shown."""

# ruff: noqa: E501  # a message stands as it is told, in one piece
from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from loguru import logger

from ravenwh.cli.settings import command
from ravenwh.config import load, load_explained, secret_of
from ravenwh.domain.errors import SettingsError, Unavailable
from ravenwh.domain.settings import DatabaseUrl, Secret, Settings

TOKEN = "tok-en-5f3a"
CURVE = "S" * 39 + "%"
PASSWORD = "pass word:with@all/of?it#ü%"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "curve").write_bytes(CURVE.encode() + b"\r\n")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "ravenwh.toml").write_text(
        f"""
        [timescale]
        url = "postgresql://me@127.0.0.1:5432/market?sslmode=require"
        password_file = "password"
        [influx]
        token_file = "token"
        [feeds.live]
        server_key = "{"a" * 40}"
        public_key = "{"b" * 40}"
        secret_key_file = "curve"
        """
    )
    return tmp_path


def test_secrets_come_from_files_beside_the_settings(folder: Path) -> None:
    settings = load(folder / "ravenwh.toml", {})
    assert settings.influx.token is not None
    assert settings.influx.token.reveal() == TOKEN
    assert settings.influx.token.file == folder / "token"
    assert settings.feeds["live"].secret_key is not None
    assert settings.feeds["live"].secret_key.reveal() == CURVE
    assert settings.timescale.password is not None
    assert settings.timescale.password.reveal() == PASSWORD


def test_a_rotated_file_is_seen(folder: Path) -> None:
    settings = load(folder / "ravenwh.toml", {})
    assert settings.influx.token is not None
    (folder / "token").write_text("another")
    assert settings.influx.token.reveal() == "another"
    before = settings.timescale.address()
    (folder / "new").write_text("new\n")
    (folder / "new").replace(folder / "password")  # as Kubernetes does: another file, same name
    assert settings.timescale.address() != before
    assert settings.timescale.address() == (
        "postgresql+asyncpg://me:new@127.0.0.1:5432/market?ssl=require"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "a file that cannot be read (No such file or directory)"),
        (b"", "an empty file"),
        (b"\n", "an empty file"),
        (b"\xff", "bytes that are no UTF-8"),
        (b"x" * 65_537, "a file that is too long"),
    ],
)
def test_a_secret_file_that_goes_bad_may_heal(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    secret = secret_of(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        secret.reveal()
    assert caught.value.needs_person
    assert str(caught.value) == (
        f'the secret in "{path}": found {found}; allowed: a readable file in UTF-8, of at most '
        "65536 bytes"
    )
    path.write_text(TOKEN)
    assert secret.reveal() == TOKEN


def test_a_secret_file_that_is_bad_at_the_start_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # to read it would wait for ever
    (tmp_path / "blank").write_text("has blanks")
    file = tmp_path / "a.toml"
    file.write_text(
        """
        influx.token_file = "blank"
        timescale = { url = "postgresql://u@h/d", password_file = "nowhere" }
        feeds.a.secret_key_file = "fifo"
        feeds.b.secret_key_file = 5
        """
    )
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    allowed = "allowed: a readable file in UTF-8, of at most 65536 bytes"
    assert [problem.replace(str(tmp_path), "DIR") for problem in caught.value.problems] == [
        'timescale.password_file (DIR/a.toml): the secret in "DIR/nowhere": found a file that '
        f"cannot be read (No such file or directory); {allowed}",
        'feeds.a.secret_key_file (DIR/a.toml): the secret in "DIR/fifo": found no regular file; '
        f"{allowed}",
        "feeds.b.secret_key_file (DIR/a.toml): found 5; allowed: the path of a file that holds the "
        "secret",
        "influx.token (DIR/a.toml:influx.token_file): found ***; allowed: a string of visible ASCII "
        "characters without blanks, not empty",
    ]


def test_a_secret_and_its_file_are_one_too_many(folder: Path) -> None:
    """Also where one is in the file and the other in the environment."""
    with pytest.raises(SettingsError) as caught:
        load(folder / "ravenwh.toml", {"RAVENWH_INFLUX_TOKEN": TOKEN})
    assert caught.value.problems == (
        f"influx.token_file ({folder}/ravenwh.toml): found a file, and the secret itself in "
        "influx.token (RAVENWH_INFLUX_TOKEN); allowed: one of them",
    )


def test_a_password_is_given_in_one_place(folder: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(folder / "ravenwh.toml", {"RAVENWH_TIMESCALE_URL": "postgresql://me:word@127.0.0.1/m"})
    assert caught.value.problems == (
        f"timescale.password ({folder}/ravenwh.toml:timescale.password_file): found one, and "
        "another in timescale.url; allowed: one of them",
    )


def test_variables_name_secrets_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(TOKEN)
    settings = load(
        None,
        {
            "RAVENWH_INFLUX_TOKEN_FILE": "token",
            "RAVENWH_TIMESCALE_URL": "postgresql://me@h/d",
            "RAVENWH_TIMESCALE_PASSWORD": PASSWORD,
        },
    )
    assert settings.influx.token == secret_of(tmp_path / "token")
    assert settings.timescale.password == Secret(PASSWORD)


def shown_everywhere(folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """Every way in which settings are shown."""
    explained = load_explained(folder / "ravenwh.toml", environ)
    settings = explained.settings
    yield from (repr(settings), str(settings), f"{settings}", f"{settings!r:>10}")
    yield from (repr(explained), explained.text(), explained.json())
    yield from (repr(list(explained.rows())), repr(attrs.asdict(settings)))
    for secret in (
        settings.influx.token,
        settings.timescale.password,
        settings.timescale.url,
        settings.feeds["live"].secret_key,
        settings.timescale,
        settings.influx,
    ):
        yield from (repr(secret), str(secret), f"{secret}", f"{secret!s:>20}", f"{[secret]}")
    for arguments in ([], ["--json"]):
        run = CliRunner(env=environ).invoke(
            command, ["--config", str(folder / "ravenwh.toml"), *arguments]
        )
        assert run.exit_code == 0
        yield run.output
    log = io.StringIO()
    sink = logger.add(log, format="{message} {extra}", serialize=False)
    try:
        logger.bind(settings=settings, token=settings.influx.token).info("LOADED {}", settings)
    finally:
        logger.remove(sink)
    assert "LOADED" in log.getvalue()
    yield log.getvalue()


def test_secrets_are_shown_nowhere(folder: Path) -> None:
    for text in shown_everywhere(folder, {}):
        for secret in (TOKEN, CURVE, PASSWORD, "pass word", "%25"):
            assert secret not in text
    (folder / "ravenwh.toml").write_text('feeds.live.secret_key_file = "curve"\n')
    with pytest.raises(SettingsError) as caught:  # it has no public key
        load(folder / "ravenwh.toml", {})
    assert CURVE not in str(caught.value)


def test_a_password_in_the_url_is_shown_nowhere(folder: Path) -> None:
    (folder / "ravenwh.toml").write_text("[feeds.live]\n")
    environ = {
        "RAVENWH_TIMESCALE_URL": "postgresql://me:hun%40ter@127.0.0.1:5432/market",
        "RAVENWH_INFLUX_TOKEN": TOKEN,
    }
    texts = list(shown_everywhere(folder, environ))
    assert any("postgresql://me:***@127.0.0.1:5432/market" in text for text in texts)
    for text in texts:
        assert "hun" not in text
        assert TOKEN not in text


@pytest.mark.parametrize(
    "text",
    [
        'influx = "SECRET"',
        'influx = ["SECRET"]',
        'influx.tokn = "SECRET"',
        'SECRETS = "SECRET"',
        'influx.token = ["SECRET"]',
        'influx.token = { a = "SECRET" }',
        'influx.token = "SECRET with blanks"',
        'feeds.a.secret_key = "SECRET"',
        'feeds.a = "SECRET"',
        'timescale.url = "postgresql://u:SECRET@h:x/d"',
        'timescale.url = "postgresql://u:x@SECRET@h/d"',
        'timescale.url = "postgresql://u:SECRET"',
        'timescale.url = "host=h password=SECRET"',
        'timescale.url = ["postgresql://u:SECRET@h/d"]',
        'timescale.url = "postgresql://u@h/d?passfile=SECRET"',
        'influx.url = "http://u:SECRET@h"',
        'influx.url = "http://u:SE@CRET:SECRET@h"',
        'feeds.a.endpoint = "tcp://u:SECRET@h:1"',
        'influx.token = "SECRET',
        'influx.token = "SECRET\\q"',
        "influx.token = SECRET",
    ],
)
def test_messages_hold_no_secret(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, {"RAVENWH_INFLUX_TOKN": "SECRET", "RAVENWH_TIMESCALE_URL_": "SECRET"})
    assert len(caught.value.problems) >= 3
    assert "SECRET" not in str(caught.value).replace("SECRETS", "")
    assert "SECRET" not in repr(caught.value).replace("SECRETS", "")
    cause: BaseException | None = caught.value
    while cause is not None:  # nor does the traceback, which shows what was raised before
        assert "SECRET" not in str(cause).replace("SECRETS", "")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def test_equal_secrets_are_equal_and_hash_alike(tmp_path: Path) -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    (tmp_path / "one").write_text("a")
    assert secret_of(tmp_path / "one") == secret_of(tmp_path / "one")
    assert secret_of(tmp_path / "one") != Secret("a")


@pytest.mark.parametrize(
    ("text", "shown", "asyncpg", "libpq"),
    [
        (
            "postgresql://h/d",
            "postgresql://h/d",
            "postgresql+asyncpg://h/d",
            "postgresql://h/d",
        ),
        (
            "postgresql+asyncpg://u:p@h:1/d?ssl=require",
            "postgresql+asyncpg://u:***@h:1/d?ssl=require",
            "postgresql+asyncpg://u:p@h:1/d?ssl=require",
            "postgresql://u:p@h:1/d?sslmode=require",
        ),
        (
            "postgresql://u%40x:%2F%3A%23%25@[::1]:1/d",
            "postgresql://u%40x:***@[::1]:1/d",
            "postgresql+asyncpg://u%40x:%2F%3A%23%25@[::1]:1/d",
            "postgresql://u%40x:%2F%3A%23%25@[::1]:1/d",
        ),
        (
            "postgresql://u@/d?host=/run/postgresql",
            "postgresql://u@/d?host=/run/postgresql",
            "postgresql+asyncpg://u@/d?host=/run/postgresql",
            "postgresql://u@/d?host=/run/postgresql",
        ),
    ],
)
def test_an_address_is_shown_masked_and_told_in_the_words_of_the_driver(
    text: str, shown: str, asyncpg: str, libpq: str
) -> None:
    url = DatabaseUrl(text)
    assert str(url) == shown
    assert repr(url) == f"DatabaseUrl({shown!r})"
    assert url.reveal() == asyncpg
    assert url.reveal(driver="postgresql") == libpq


def test_sqlalchemy_reads_the_password_that_was_given() -> None:
    from sqlalchemy import make_url

    url = make_url(DatabaseUrl("postgresql://m%40e@h:1/d").reveal(Secret(PASSWORD)))
    assert (url.username, url.password, url.host, url.port, url.database, url.drivername) == (
        "m@e",
        PASSWORD,
        "h",
        1,
        "d",
        "postgresql+asyncpg",
    )


def test_the_embedded_server_has_no_address_here() -> None:
    with pytest.raises(SettingsError, match=r'timescale\.url: found "embedded"'):
        Settings().timescale.address()
    with pytest.raises(ValueError, match="launcher"):
        DatabaseUrl("embedded").reveal()
