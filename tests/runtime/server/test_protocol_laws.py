"""Laws of the codec: what is encoded decodes to the same, and damaged requests are refused, never anything else."""

import contextlib
import json
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from enginewright_runtime.engine.values import DTYPES
from enginewright_runtime.errors import InputError
from enginewright_runtime.server import protocol, tensors

NUMBERS = [name for name in tensors.DATATYPES if name not in ("string", "bfloat16")]


@st.composite
def tensor(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    return draw(arrays.arrays(DTYPES[draw(st.sampled_from(NUMBERS))], shape))


def as_request(answer: protocol.InferenceResponse) -> tuple[bytes, str | None]:
    """A response's tensors sent back as a request."""
    body = b"".join(answer.body)
    end = len(body) if answer.header_length is None else answer.header_length
    head = json.dumps({"inputs": json.loads(body[:end])["outputs"]}).encode()
    return head + body[end:], None if answer.header_length is None else str(len(head))


@given(st.dictionaries(st.text(min_size=1, max_size=5), tensor(), min_size=1, max_size=3))
def test_binary_data_comes_back_bit_for_bit(outputs: dict[str, Any]) -> None:
    chosen = dict.fromkeys(outputs, True)
    request = protocol.decode(*as_request(protocol.encode(outputs, chosen, model="m", version="1", request_id="")))
    for name, array in outputs.items():
        assert request.inputs[name].dtype == array.dtype
        assert request.inputs[name].shape == array.shape
        assert request.inputs[name].tobytes() == array.tobytes()


@given(tensor())
@example(np.array([0, 1 << 63], np.uint64))
def test_json_comes_back_the_same_or_is_refused(array: Any) -> None:
    try:
        sent = as_request(protocol.encode({"y": array}, {"y": False}, model="m", version="1", request_id=""))
    except InputError:
        assert array.dtype == np.float16 or not np.isfinite(array).all()
        return
    got = protocol.decode(*sent).inputs["y"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


GOOD = json.dumps(
    {
        "id": "1",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
            {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["a"]},
            {"name": "n", "datatype": "INT8", "shape": [1, 2], "data": [[1, 2]]},
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
).encode()


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4),
    st.integers(-3, 3),
    st.one_of(st.none(), st.just(str(len(GOOD))), st.text(max_size=4), st.integers(-5, 400).map(str)),
)
def test_a_damaged_request_is_decoded_or_refused(changes: list[tuple[int, int]], cut: int, header: str | None) -> None:
    body = bytearray(GOOD + bytes(8))
    for at, value in changes:
        body[at] = value
    with contextlib.suppress(InputError):
        protocol.decode(bytes(body[: len(body) + min(cut, 0)]) + bytes(max(cut, 0)), header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"name": st.just("x") | json_values},
        optional={
            "datatype": st.sampled_from(list(tensors.DTYPE_NAMES)) | json_values,
            "shape": st.lists(st.integers(-2, 9), max_size=4) | json_values,
            "data": json_values | st.lists(json_values, max_size=4),
            "parameters": json_values,
        },
    )
)
def test_any_json_in_place_of_a_tensor_is_decoded_or_refused(made_up: dict[str, Any]) -> None:
    with contextlib.suppress(InputError):
        protocol.decode(json.dumps({"inputs": [made_up]}).encode(), None)
