"""No two tensors that are alive at once overlap, and the arena is as small as is known to be possible, in time."""

import time

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st

from enginewright_builder import memory
from enginewright_builder.importers import from_onnx
from enginewright_builder.memory import ALIGNMENT, Tensor


def tensors_from(rows):
    return [
        Tensor(name=f"t{i}", bytes=size, first=first, last=first + lived) for i, (size, first, lived) in enumerate(rows)
    ]


def overlaps(arena):
    """Pairs that are alive at once and share a byte, by brute force."""
    placed = [(name, p) for name, p in arena.tensors.items() if p.bytes]
    return [
        (a, b)
        for i, (a, p) in enumerate(placed)
        for b, q in placed[i + 1 :]
        if p.first <= q.last and q.first <= p.last and p.offset < q.offset + q.bytes and q.offset < p.offset + p.bytes
    ]


ROWS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)), max_size=60)


@given(rows=ROWS)
def test_no_two_tensors_that_are_alive_at_once_overlap(rows):
    assert overlaps(memory.place(tensors_from(rows))) == []


@given(rows=ROWS)
def test_in_order_of_time_alone_no_two_overlap_either(rows):
    tensors = [tensor for tensor in tensors_from(rows) if tensor.bytes]
    offsets = memory._in_order_of_time(tensors)
    for i, (a, at) in enumerate(zip(tensors, offsets, strict=True)):
        for b, other in zip(tensors[i + 1 :], offsets[i + 1 :], strict=True):
            if a.first <= b.last and b.first <= a.last:
                assert at + a.bytes <= other or other + b.bytes <= at


@given(rows=ROWS)
def test_the_arena_lies_between_its_lower_bound_and_the_sum(rows):
    arena = memory.place(tensors_from(rows))
    assert arena.lower_bound <= arena.bytes <= arena.sum_of_tensors
    assert all(placement.offset % ALIGNMENT == 0 for placement in arena.tensors.values())
    assert all(placement.offset + placement.bytes <= arena.bytes for placement in arena.tensors.values())


@given(rows=ROWS)
def test_overlapping_pairs_are_counted_exactly(rows):
    tensors = tensors_from(rows)
    pairs = sum(a.first <= b.last and b.first <= a.last for i, a in enumerate(tensors) for b in tensors[i + 1 :])
    assert memory._overlapping_pairs(tensors) == pairs


def test_a_chain_needs_two_tensors_at_a_time():
    arena = memory.place([Tensor(name=f"t{i}", bytes=1000, first=i, last=i + 1) for i in range(50)])
    assert arena.bytes == arena.lower_bound == 2048


def test_a_hundred_thousand_tensors_are_placed_in_seconds():
    generator = np.random.default_rng(0)
    count = 100_000
    lived = np.minimum(generator.geometric(0.2, count), 2000)
    lived[::500] = 2000
    rows = zip(generator.integers(1, 1 << 20, count).tolist(), range(count), lived.tolist(), strict=True)
    started = time.process_time()
    arena = memory.place(tensors_from(rows))
    assert time.process_time() - started < 20
    assert arena.bytes < 1.5 * arena.lower_bound


def test_tensors_that_are_all_alive_at_once_are_placed_in_seconds_too():
    count = 50_000
    started = time.process_time()
    arena = memory.place([Tensor(name=f"t{i}", bytes=512, first=0, last=count) for i in range(count)])
    assert time.process_time() - started < 10
    assert arena.bytes == arena.lower_bound == 512 * count


def network_of(tmp_path, source):
    onnx.save(onnx.parser.parse_model(source), tmp_path / "model.onnx")
    return from_onnx.load(tmp_path / "model.onnx")


def test_inputs_outputs_and_constants_are_not_in_the_arena(tmp_path):
    network = network_of(
        tmp_path,
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[4] x) => (float[4] y) '
        "{ k = Constant<value = float[4] {1.0, 2.0, 3.0, 4.0}>() a = Add(x, k) b = Neg(a) y = Relu(b) }",
    )
    arena = memory.plan(network)
    assert {name: (p.bytes, p.first, p.last) for name, p in arena.tensors.items()} == {"a": (16, 0, 1), "b": (16, 1, 2)}


def test_what_a_body_captures_lives_until_that_layer(tmp_path):
    network = network_of(
        tmp_path,
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[4] x, bool c) => (float[4] y) '
        "{ a = Neg(x) b = Abs(x) d = Relu(b) e = If(c) <then_branch = t () => (float[4] p) { p = Neg(a) }, "
        "else_branch = f () => (float[4] q) { q = Abs(a) }> y = Add(d, e) }",
    )
    assert memory.plan(network).tensors["a"].last == 3


def test_a_tensor_of_unknown_shape_is_left_to_the_executor(tmp_path):
    network = network_of(
        tmp_path,
        '<ir_version: 8, opset_import: ["" : 17]> agraph (float[N] x) => (float[N] y) { a = Neg(x) y = Relu(a) }',
    )
    assert memory.plan(network).tensors == {}
