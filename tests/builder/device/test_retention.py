"""Whose weights are marked as the first to leave the L2 cache."""

import pytest

from enginewright_builder.device import retention
from enginewright_runtime.engine.cuda.program import Argument, Copy, Kernel, Pointer, Space, Step, TensorMap

L2 = 50 << 20
MARKED, UNMARKED = (retention.argument(first_to_leave=which) for which in (True, False))


def kernel(*blobs: str) -> Step:
    """A launch that reads these blobs, the first one by a tensor map, and marks nothing."""
    first, *others = (Pointer(space=Space.BLOB, name=name) for name in blobs)
    by_map = TensorMap(pointer=first, dtype="float16", dims=(8,), strides=(), box=(8,))
    arguments = (Argument(tensor_map=by_map), *(Argument(pointer=each) for each in others), UNMARKED)
    made = Kernel(cubin="k", function="k", grid=(1, 1, 1), block=(128, 1, 1), arguments=arguments)
    return Step(layer="", kernel=made)


def marked(steps: list[Step], able: set[int], sizes: dict[str, int], l2_bytes: int | None = L2) -> list[bool]:
    made = retention.with_marks(steps, able, sizes.__getitem__, l2_bytes)
    kernels = [step.kernel for step in made]
    return [each is not None and each.arguments[-1] == MARKED for each in kernels]


@pytest.mark.parametrize(("megabytes", "which"), [(51, True), (40, True), (31, False), (4, False)])
def test_weights_are_marked_where_all_of_a_network_do_not_fit(megabytes: int, which: bool) -> None:
    sizes = {"w0": megabytes << 19, "w1": megabytes << 19}
    assert marked([kernel("w0"), kernel("w1")], {0, 1}, sizes) == [which, which]


def test_what_several_launches_read_counts_once() -> None:
    assert marked([kernel("w", "bias"), kernel("w", "bias")], {0, 1}, {"w": 20 << 20, "bias": 64}) == [False, False]


def test_weights_of_layers_that_cannot_mark_theirs_count_too() -> None:
    copy = Step(
        layer="",
        copy=Copy(source=Pointer(space=Space.BLOB, name="large"), target=Pointer(space=Space.ARENA), bytes=60 << 20),
    )
    assert marked([kernel("w"), copy, kernel("w")], {0}, {"w": 64, "large": 60 << 20}) == [True, False, False]


def test_nothing_is_marked_where_no_cache_is_named() -> None:
    assert marked([kernel("w")], {0}, {"w": 60 << 20}, None) == [False]


def test_a_marked_kernel_is_otherwise_the_same() -> None:
    step = kernel("w", "bias")
    (made,) = retention.with_marks([step], {0}, {"w": 60 << 20, "bias": 0}.__getitem__, L2)
    assert made.kernel is not None
    assert step.kernel is not None
    assert made.kernel.arguments[:-1] == step.kernel.arguments[:-1]
    assert (MARKED.value, UNMARKED.value) == ("01000000", "00000000")
