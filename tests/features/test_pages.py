"""docs/bars/: the pictures are those of the code, and the tables of parameters are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import attrs
import pytest

from docs.bar_pictures import FOLDER, PROFILES, made, picture
from ravenwh import features
from ravenwh.domain.errors import Refused
from ravenwh.features import KINDS

PAGES = list(PROFILES)


@pytest.mark.parametrize("page", PAGES)
def test_the_picture_is_that_of_the_code(page: str) -> None:
    drawn = (FOLDER / f"{page}.svg").read_text(encoding="utf-8")
    assert drawn == picture(page), "it is stale: make reference"
    assert len(drawn) < 20_000
    root = ElementTree.fromstring(drawn)  # noqa: S314 - we drew it ourselves
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert f"{page}.svg)" in text_of(page)
    shown = re.search(r">>> chain = Chain\((.+)\)$", text_of(page), re.MULTILINE)
    assert shown is not None
    assert eval(shown[1], vars(features)) == PROFILES[page]  # noqa: S307  it is our page


def test_there_is_a_page_for_every_kind() -> None:
    assert {type(profile) for profile in PROFILES.values()} == set(KINDS.values())
    assert all(len(made(profile)) > 40 for profile in PROFILES.values())
    assert [path.stem for path in sorted(FOLDER.glob("*.md"))] == sorted([*PAGES, "trades"])


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_parameters_is_true(page: str) -> None:
    """Names and defaults are the declared ones; both bounds are taken, and nothing beyond."""
    kind = type(PROFILES[page])
    rows = list(rows_of(text_of(page)))
    assert [name for name, *_ in rows] == [field.name for field in attrs.fields(kind)]
    for name, default, least, most in rows:
        assert getattr(kind(), name) == float(default)
        whole = isinstance(getattr(kind(), name), int)
        number = int if whole else float
        for bound in (least, most):
            assert getattr(kind(**{name: number(bound)}), name) == bound
        beyond = (least - 1, most + 1) if whole else (least * 0.999, most * 1.001)
        for value in beyond:
            with pytest.raises(Refused, match=name):
                kind(**{name: number(value)})


def test_the_reference_has_every_name() -> None:
    page = (FOLDER.parent / "reference" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r":: ravenwh\.features\.(?:profile\.)?(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(features.__all__)


def rows_of(page: str) -> Iterator[tuple[str, str, float, float]]:
    for row in re.finditer(r"^\| `(\w+)` \| (\S+) \| (\S+) to (\S+) \| ", page, re.MULTILINE):
        name, default, least, most = row.groups()
        yield name, default, float(least.replace(",", "")), float(most.replace(",", ""))


def text_of(page: str) -> str:
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")
