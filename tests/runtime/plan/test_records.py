"""Records to JSON and back, strictly, and digests that do not change by themselves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: int
    weight: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    colour: Colour = Colour.RED
    on: bool = False
    sizes: tuple[int, ...] = ()
    inner: Inner | None = None
    many: Mapping[str, Inner] = field(default_factory=dict)
    anything: Any = None


texts = st.text(st.characters(codec="utf-8"), max_size=10)
integers = st.integers(-(1 << 63), (1 << 63) - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, number=integers, weight=floats)
outers = st.builds(
    Outer,
    name=texts,
    colour=st.sampled_from(Colour),
    on=st.booleans(),
    sizes=st.lists(integers).map(tuple),
    inner=st.none() | inners,
    many=st.dictionaries(texts, inners, max_size=3),
    anything=st.recursive(
        st.none() | st.booleans() | integers | floats | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=5
    ),
)


@given(outers)
def test_what_was_written_is_read(record: Outer) -> None:
    assert records.from_json(Outer, records.parse(records.canonical(record), what="it"), what="it") == record


@given(outers)
def test_equal_records_have_equal_digests_and_others_do_not(record: Outer) -> None:
    other = replace(record, name=f"{record.name}x")
    assert records.digest(record) == records.digest(replace(record))
    assert records.digest(record) != records.digest(other)


def test_defaults_are_left_out() -> None:
    assert records.canonical(Outer(name="n")) == b'{"name":"n"}'


def test_keys_are_sorted_so_their_order_does_not_matter() -> None:
    one, two = Inner(number=1), Inner(number=2)
    a = Outer(name="n", many={"a": one, "b": two})
    b = Outer(name="n", many={"b": two, "a": one})
    assert records.canonical(a) == records.canonical(b)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "it must be an object, got a list."),
        ({}, "it lacks the field 'name'."),
        ({"name": 1}, "it.name must be text, got 1."),
        ({"name": "n", "on": 1}, "it.on must be true or false, got 1."),
        ({"name": "n", "sizes": 1}, "it.sizes must be a list, got 1."),
        ({"name": "n", "sizes": [1, 2.0]}, "it.sizes[1] must be an integer, got 2.0."),
        ({"name": "n", "sizes": [True]}, "it.sizes[0] must be an integer, got true."),
        ({"name": "n", "colour": "green"}, 'it.colour must be one of red, blue, got "green".'),
        ({"name": "n", "inner": {"number": 1, "weight": "x"}}, 'it.inner.weight must be a number, got "x".'),
        ({"name": "n", "many": {"k": 1}}, "it.many.k must be an object, got 1."),
        ({"name": "n", "many": []}, "it.many must be an object, got a list."),
    ],
)
def test_a_field_that_does_not_fit_is_named(value: Any, sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        records.from_json(Outer, value, what="it")
    assert str(caught.value) == sentence


def test_an_unknown_field_is_named_with_those_that_there_are() -> None:
    with pytest.raises(PlanError, match=r"unknown field 'nmae'; it may have: anything, colour, inner, many, name"):
        records.from_json(Outer, {"name": "n", "nmae": 1}, what="it")


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(PlanError) as caught:
        records.from_json(Outer, {"name": "n", "many": {"k\n" * 500: 1}, "on": "y" * 10_000}, what="it")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_an_integer_is_a_number_where_it_is_exact() -> None:
    assert records.from_json(Inner, {"number": 1, "weight": 2}, what="it").weight == 2.0
    with pytest.raises(PlanError, match=r"it\.weight must be a number"):
        records.from_json(Inner, {"number": 1, "weight": 10**400}, what="it")


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_refused(text: bytes) -> None:
    try:
        read = records.parse(text, what="it")
    except PlanError:
        return
    records.canonical(read)
