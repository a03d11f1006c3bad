"""Parameters: what is refused and how, what the hash depends on, which names there are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravenwh.domain.errors import Refused
from ravenwh.features import (
    KINDS,
    Profile,
    TickImbalance,
    TickRun,
    VolumeImbalance,
    Vpin,
    parse_profile,
)

NAN, INF = float("nan"), float("inf")
TICKS = "a whole number from 1 to 10,000,000"


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("tib_a", {"expected_ticks": 0}, f"expected_ticks: found 0, allowed is {TICKS}"),
        ("tib_a", {"expected_ticks": -1}, "expected_ticks: found -1"),
        ("tib_a", {"expected_ticks": 10**400}, "expected_ticks: found 1000"),
        ("tib_a", {"expected_ticks": 10.5}, f"found 10.5, allowed is {TICKS}"),
        ("tib_a", {"expected_ticks": "100"}, f"found '100', allowed is {TICKS}"),
        ("tib_a", {"expected_ticks": True}, f"found True, allowed is {TICKS}"),
        ("tib_a", {"expected_ticks": None}, f"found None, allowed is {TICKS}"),
        ("tib_a", {"expected_ticks": [1]}, f"found [1], allowed is {TICKS}"),
        ("trb_a", {"span": 0}, "span: found 0, allowed is a whole number from 1 to 100,000"),
        ("trb_a", {"span": NAN}, "span: found nan"),
        ("trb_a", {"least": NAN}, "least: found nan, allowed is a number from 0.001 to 1"),
        ("trb_a", {"least": 0}, "least: found 0,"),
        ("trb_a", {"least": "0.1"}, "least: found '0.1'"),
        ("trb_a", {"least": 1.01}, "least: found 1.01"),
        ("vib_a", {"most": 0.99}, "most: found 0.99, allowed is a number from 1 to 1000"),
        ("vib_a", {"most": INF}, "most: found inf"),
        ("vib_a", {"least_imbalance": 0.0}, "least_imbalance: found 0.0, allowed is a number"),
        ("vib_a", {"least_imbalance": -0.1}, "least_imbalance: found -0.1"),
        ("vpin", {"bucket_volume": 0}, "bucket_volume: found 0, allowed is a number from 1e-12"),
        ("vpin", {"bucket_volume": -3.0}, "bucket_volume: found -3.0"),
        ("vpin", {"bucket_volume": INF}, "bucket_volume: found inf"),
        ("vpin", {"buckets": 0}, "buckets: found 0, allowed is a whole number from 1 to 10,000"),
        ("vpin", {"slices": 1001}, "slices: found 1001, allowed is a whole number from 1 to 1,000"),
        ("trb_a", {"least_imbalance": 0.1}, "found unknown least_imbalance; allowed are "),
        ("vpin", {"span": 3, "a": 1}, "found unknown a, span; allowed are bucket_volume, buckets"),
        ("tib_a", {"kind": "trb"}, "found parameters of kind 'trb'"),
        ("tibs_a", {}, "is of no kind that is known; allowed are tib_..., trb_..., vib_..., vpin_"),
        ("", {}, "profile '' is of no kind that is known"),
        ("1m", {}, "profile '1m' is of no kind that is known"),
        ("TIB_a", {}, "profile 'TIB_a' is of no kind that is known"),
    ],
)
def test_what_makes_no_bars_is_refused_by_name(
    name: str, parameters: dict[str, Any], told: str
) -> None:
    with pytest.raises(Refused, match=re.escape(told)) as refused:
        parse_profile(name, parameters)
    assert str(refused.value).startswith((f"profile {name}: ", f"profile {name!r} "))
    assert len(str(refused.value)) < 200


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(
            ["kind", "expected_ticks", "span", "least", "most", "least_imbalance", "buckets"]
        ),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    ),
)
def test_any_parameters_make_a_profile_or_are_refused(
    kind: str, parameters: dict[str, Any]
) -> None:
    try:
        profile = parse_profile(kind, parameters)
    except Refused:
        return
    assert profile.parameters == {**profile.parameters, **parameters, "kind": kind}


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_profile_comes_back_from_its_parameters(kind: type[Profile]) -> None:
    """As they stand on the wire and in the mart, where numbers may lose their point."""
    profile = kind()
    name = f"{kind.PREFIX}_x"
    parameters = profile.parameters
    assert parse_profile(name, json.loads(json.dumps(parameters))) == profile
    pointless = {
        key: int(value) if isinstance(value, float) and value == int(value) else value
        for key, value in parameters.items()
    }
    assert parse_profile(name, pointless).parameters_hash == profile.parameters_hash
    assert parse_profile(name, {}) == profile


def test_the_hash_is_that_of_the_parameters() -> None:
    """Each of them counts; and the hash does not change with a version: bars are named by it."""
    profiles = [
        *(kind() for kind in KINDS.values()),
        TickImbalance(expected_ticks=999),
        TickImbalance(span=19),
        TickImbalance(least=0.2),
        TickImbalance(most=11),
        TickImbalance(least_imbalance=0.06),
        Vpin(bucket_volume=99),
        Vpin(slices=9),
        Vpin(buckets=49),
    ]
    hashes = [profile.parameters_hash for profile in profiles]
    assert len(set(hashes)) == len(profiles)
    assert TickImbalance(most=10).parameters_hash == TickImbalance(most=10.0).parameters_hash
    assert {profile.PREFIX: profile.parameters_hash for profile in profiles[:4]} == {
        "tib": "1a0581056b397ec5",
        "trb": "7d0571320bbe1624",
        "vib": "f546f4036939e35e",
        "vpin": "fe7340ef4b7fab23",
    }


def test_kinds_are_named_by_their_first_word() -> None:
    assert {prefix: kind.__name__ for prefix, kind in KINDS.items()} == {
        "tib": "TickImbalance",
        "trb": "TickRun",
        "vib": "VolumeImbalance",
        "vpin": "Vpin",
    }
    assert parse_profile("trb_small_2", {}) == TickRun()
    assert parse_profile("vib", {}) == VolumeImbalance()


@pytest.mark.parametrize("bars", [1, 2, 5, 20, 100, 10_000])
@pytest.mark.parametrize("slices", [1, 10])
def test_what_was_before_is_forgotten_to_a_millionth(bars: int, slices: int) -> None:
    kept = 1 - 2 / (bars + 1)
    assert kept ** TickRun(span=bars).forgets_after < 1e-6
    vpin = Vpin(buckets=bars, slices=slices)
    kept = 1 - 2 / (slices * bars + 1)
    assert kept ** (slices * vpin.forgets_after) < 1e-6
    assert vpin.forgets_after >= bars
