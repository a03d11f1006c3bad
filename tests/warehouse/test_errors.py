"""The one table from what the database says to the class that is the action."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from ravenwh.domain.errors import RavenwhError, Rejected, SchemaMismatch, TooLarge, Unavailable
from ravenwh.warehouse.errors import BY_STATE, by_state, translated
from tests.conftest import engine_on

CLASSES = re.findall(
    r"\w\w",
    "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 "
    "3B 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV P0 XX",
)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1/0", Rejected),
        ("SELECT 'x'::int", Rejected),
        ("INSERT INTO mart.dim__coin (coin, is_deleted) VALUES ('X', true)", Rejected),
        ("INSERT INTO mart.dim__coin (coin) VALUES (NULL)", Rejected),
        ("SELECT * FROM mart.nothing", SchemaMismatch),
        ("SELECT nothing FROM mart.dim__coin", SchemaMismatch),
        ("SELECT pg_terminate_backend(pg_backend_pid())", Unavailable),
        ("SET statement_timeout = 1; SELECT pg_sleep(5)", Unavailable),
        *(
            (f"DO $$BEGIN RAISE SQLSTATE '{state}';END$$", action)
            for state, action in {
                "53400": TooLarge,
                "54000": TooLarge,
                "40P01": Unavailable,
                "23503": Unavailable,
                "42501": Unavailable,
                "42710": Unavailable,
                "25006": Unavailable,
            }.items()
        ),
    ],
)
async def test_what_a_real_server_says(
    mart: AsyncEngine, statement: str, expected: type[RavenwhError]
) -> None:
    async def said() -> None:
        with translated():
            async with mart.begin() as connection:
                for part in statement.split("; "):
                    await connection.exec_driver_sql(part)

    with pytest.raises(RavenwhError) as caught:
        await said()
    assert type(caught.value) is expected


@pytest.mark.parametrize("state_class", CLASSES)
def test_every_class_of_states_has_an_action(state_class: str) -> None:
    error = by_state(f"{state_class}000", "words of the server")
    assert isinstance(error, Rejected | Unavailable | TooLarge | SchemaMismatch)
    assert "words of the server" in str(error)


def test_every_entry_of_the_table_is_a_state_or_a_class() -> None:
    assert all(len(key) in (2, 5) and key[:2] in CLASSES for key in BY_STATE)


async def test_a_wrong_password_needs_a_person(mart_url: str) -> None:
    url = sa.make_url(mart_url).set(password="wrong")
    async with engine_on(url) as engine:
        with pytest.raises(Unavailable) as caught, translated():
            async with engine.connect():
                pass
    assert caught.value.needs_person
    assert "wrong" not in str(caught.value)
