"""Whatever stands in a file or in the environment, it loads or is refused, and tells no secret."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ravenwh.config import example, load, load_explained
from ravenwh.config.keys import keys_of, tables
from ravenwh.domain.errors import SettingsError
from ravenwh.domain.settings.database_url import DatabaseAddress
from ravenwh.domain.settings.kinds import (
    Choice,
    FilePath,
    Hidden,
    Kind,
    Number,
    Text,
    Texts,
    Whole,
)
from ravenwh.domain.settings.option import Named
from ravenwh.domain.settings.toml_text import dotted, toml_text

PATHS = [key.path for table, section in tables(["a"]).items() for key in keys_of(table, section)]
VARIABLES = [
    key.variable
    for table, section in tables(["a", "default"]).items()
    for key in keys_of(table, section)
    if key.variable
]
NAMES = st.one_of(
    st.sampled_from(sorted({part for path in PATHS for part in path})),
    st.sampled_from(["BTC/USDT", "BINANCE_SPOT", "BINANCE_SPOT:CANDLE", "default", "symbol"]),
    st.text(max_size=8),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["embedded", "postgresql://a:b@c/d", "tcp://*:1", "bind", "1m", "BTC/USDT", "~"]
    ),
)
SCALARS = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(),
    st.integers(min_value=0, max_value=70_000),
    st.floats(),
    st.datetimes().map(lambda at: at.replace(fold=0)),
    st.dates(),
    st.times().map(lambda at: at.replace(fold=0)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ANYWHERE = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def file() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "a.toml"


def loads_or_is_refused(file: Path, content: bytes, environ: dict[str, str]) -> str:
    file.write_bytes(content)
    try:
        explained = load_explained(file, environ)
    except SettingsError as error:
        refused = error
    else:
        assert load(file, environ) == explained.settings
        return explained.text() + explained.json() + repr(explained)
    assert refused.problems
    for problem in refused.problems:
        assert "found" in problem
        assert "allowed" in problem
        assert "\n" not in problem
    return str(refused)


@ANYWHERE
@given(tree=st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_tree(file: Path, tree: dict[str, Any]) -> None:
    text = "".join(f"{dotted((name,))} = {toml_text(value)}\n" for name, value in tree.items())
    loads_or_is_refused(file, text.encode(errors="surrogatepass"), {})


@ANYWHERE
@given(given_paths=st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=6))
def test_any_value_of_a_known_key(file: Path, given_paths: dict[tuple[str, ...], Any]) -> None:
    text = "".join(f"{dotted(path)} = {toml_text(value)}\n" for path, value in given_paths.items())
    loads_or_is_refused(file, text.encode(errors="surrogatepass"), {})


@ANYWHERE
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes(file: Path, content: bytes) -> None:
    loads_or_is_refused(file, content, {})


@ANYWHERE
@given(
    environ=st.dictionaries(
        st.sampled_from(VARIABLES) | st.text(max_size=9).map("RAVENWH_{}".format),
        TEXTS | st.integers(0, 70_000).map(str) | st.floats().map(str) | st.just("\udcff"),
        max_size=6,
    )
)
def test_any_environment(file: Path, environ: dict[str, str]) -> None:
    loads_or_is_refused(file, b"[feeds.a]\n", environ)


SECRETS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1).map(
    "qx7{}7xq".format
)


@ANYWHERE
@given(secret=SECRETS, rest=st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=3))
def test_no_secret_is_told(file: Path, secret: str, rest: dict[tuple[str, ...], Any]) -> None:
    """The secret stands in each place that is meant for one, good or bad, beside anything else."""
    hidden: dict[tuple[str, ...], Any] = {
        ("influx", "token"): secret,
        ("timescale", "password"): secret,
        ("feeds", "a", "secret_key"): secret,
        ("timescale", "url"): f"postgresql://u:{secret}@h/d",
    }
    tree = {path: value for path, value in rest.items() if path not in hidden} | hidden
    text = "".join(f"{dotted(path)} = {toml_text(value)}\n" for path, value in tree.items())
    told = loads_or_is_refused(file, text.encode(errors="surrogatepass"), {})
    assert "qx7" not in told


@ANYWHERE
@given(data=st.data())
def test_any_change_of_one_character_of_the_example(file: Path, data: st.DataObject) -> None:
    text = example()
    at = data.draw(st.integers(0, len(text) - 1))
    loads_or_is_refused(
        file, (text[:at] + data.draw(st.text(max_size=1)) + text[at + 1 :]).encode(), {}
    )


@given(value=VALUES)
def test_what_is_written_as_toml_is_read_as_the_same(value: Any) -> None:
    import tomllib

    text = f"a = {toml_text(value)}"
    read = tomllib.loads(text)["a"]
    assert read == value or repr(read) == repr(value)  # NaN equals nothing


def fitting(kind: Kind[Any]) -> st.SearchStrategy[Any]:
    """Values of TOML that the kind allows."""
    match kind:
        case Whole(least=least, most=most):
            return st.integers(least, most)
        case Number(least=least, most=most):
            return st.floats(least, most)
        case Choice(words=words):
            return st.sampled_from(words)
        case Text(pattern=pattern) if pattern is not None:
            return st.from_regex(pattern, fullmatch=True).filter(kind_allows(kind))
        case Texts(item=item, least=least):
            return st.lists(fitting(item), min_size=least, max_size=3, unique=True)
        case FilePath():
            return st.from_regex("/[a-z]{1,9}", fullmatch=True)
        case Hidden():
            return st.from_regex(kind.pattern, fullmatch=True).filter(kind_allows(kind))
        case Text():
            return st.sampled_from(["127.0.0.1", "::1", "tcp://127.0.0.1:1", "ipc://x"]).filter(
                kind_allows(kind)
            )
        case DatabaseAddress():
            return st.sampled_from(["embedded", "postgresql://a:b@c:1/d", "postgresql://[::1]/d"])
    msg = f"no values for {kind}"
    raise TypeError(msg)


def kind_allows(kind: Kind[Any]) -> Any:
    def allows(value: object) -> bool:
        try:
            kind.read(value)
        except SettingsError:
            return False
        return True

    return allows


SINGLE = {
    key.path: fitting(key.kind)
    for table, section in tables(["a"]).items()
    for key in keys_of(table, section)
    if not key.in_file and not isinstance(key.kind, Named)
}


@ANYWHERE
@given(data=st.data(), paths=st.sets(st.sampled_from(sorted(SINGLE)), max_size=8))
def test_allowed_values_load_and_what_is_printed_loads_to_the_same(
    file: Path, data: st.DataObject, paths: set[tuple[str, ...]]
) -> None:
    tree = {path: data.draw(SINGLE[path]) for path in sorted(paths)}
    text = "".join(f"{dotted(path)} = {toml_text(value)}\n" for path, value in tree.items())
    file.write_text(text, encoding="utf-8", newline="")
    try:
        explained = load_explained(file, {})
    except SettingsError as error:
        refused = {problem.split(" (")[0] for problem in error.problems}
        # each alone is allowed: only rules between several keys are left to be broken
        event(f"rules: {sorted(refused)}")
        values = "|".join(error.problems)
    else:
        event("loaded")
        values = ""
    assert not values or any(word in values for word in RULES), values
    if values or "***" in explained.text():
        return
    file.write_text(explained.text(), encoding="utf-8", newline="")
    assert load(file, {}) == explained.settings


RULES = (
    "that server has its own",
    "another in timescale.url",
    "or none of them",
    "allowed only with mode",
    "not more than that",
    "which venue_include has too",
    "found nothing, with client_keys",
    "with several client_keys",
    "a feed of the settings",
)
