"""A product and the attention of its columns in one launch, without a card: what it takes, its arguments, compiling."""

import dataclasses
import struct
from typing import Any

import pytest
from compile_sweep.architectures import DEVICES

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, plain
from enginewright_builder.tactics import hopper_heads
from enginewright_runtime.engine.cuda.program import Kernel

HOPPER = DEVICES[90]
CONSTANT = frozenset({1, 2})


def heads(
    sequences: int = 8, rows: int = 128, count: int = 12, depth: int = 768, *, size: int = 64, dtype: str = "float16",
    scale: float = 0.125,
) -> Problem:  # fmt: skip
    """BERT-base's, where nothing is said."""
    width, wide = count * size, 3 * count * size
    return Problem(
        kind=Kind.HEADS,
        inputs=(
            plain(dtype, (sequences, rows, depth)),
            TensorType(dtype=dtype, shape=(sequences, depth, wide), strides=(0, wide, 1)),
            plain("float32", (wide,)),
            None,
        ),
        outputs=(
            TensorType(dtype=dtype, shape=(sequences, count, rows, size), strides=(rows * width, size, width, 1)),
        ),
        attributes={"columns": (width, 0, 2 * width), "scale": scale},
    )


def names(given: Problem, constant: frozenset[int] = CONSTANT, **changes: Any) -> list[str]:
    device = dataclasses.replace(HOPPER, **changes)
    return [each.name for each in hopper_heads.HopperHeads().candidates(given, device, constant)]


def kernel(given: Problem, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    made = hopper_heads.implementation(given, CONSTANT, HOPPER).steps[0].kernel
    assert made is not None
    return made


def test_short_sequences_are_offered_by_what_fits() -> None:
    assert names(heads()) == ["128 rows, 4 stages"]
    assert names(heads(rows=50, dtype="bfloat16")) == ["64 rows, 6 stages"]


@pytest.mark.parametrize(
    ("given", "constant"),
    [
        (heads(1), CONSTANT),
        (heads(rows=129), CONSTANT),
        (heads(size=32), CONSTANT),
        (heads(scale=-1.0), CONSTANT),
        (heads(dtype="float32"), CONSTANT),
        (heads(depth=100), CONSTANT),
        (heads(), frozenset({2})),
        (heads(), frozenset({1})),
        (dataclasses.replace(heads(), kind=Kind.PRODUCT), CONSTANT),
    ],
    ids=[
        "a small batch",
        "sequences longer than a tile",
        "heads of 32",
        "a negative scale",
        "float32",
        "rows of 200 bytes",
        "weights that change",
        "a bias that changes",
        "another kind",
    ],
)
def test_what_the_kernel_cannot_do_or_does_slower_is_not_offered(given: Problem, constant: frozenset[int]) -> None:
    assert names(given, constant) == []


def test_other_architectures_get_nothing() -> None:
    assert names(heads(), capability=100) == []


def test_arguments_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = kernel(heads(rows=100), monkeypatch)
    assert (made.grid, made.block, made.dependent) == ((96, 1, 1), (288, 1, 1), True)
    a, b, y = (each.tensor_map for each in made.arguments[:3])
    assert a is not None
    assert b is not None
    assert y is not None
    assert (a.dims, a.box) == ((768, 100, 8, 1), (64, 128, 1, 1))
    assert (b.dims, b.box) == ((64, 12 * 2304), (64, 64))
    assert (y.dims, y.box) == ((64, 100, 12, 8), (64, 64, 1, 1))
    numbers = struct.unpack("<7if", bytes.fromhex(made.arguments[-1].value))
    assert numbers[:-1] == (12, 12, 2304, 768, 0, 1536, 100)
    assert numbers[-1] == pytest.approx(0.125 * 1.4426950)


@pytest.mark.parametrize(
    "given", [heads(), heads(rows=50, dtype="bfloat16"), heads(rows=100)], ids=["bert", "one", "tail"]
)
def test_it_compiles_without_spills_and_without_products_that_wait_for_each_other(given: Problem) -> None:
    said = compiler.resources(hopper_heads.source(given, hopper_heads.stages(given, HOPPER)), HOPPER.architecture)
    assert "0 bytes spill stores" in said
    assert "serialized" not in said


def test_every_choice_fits() -> None:
    for given in (heads(), heads(rows=64), heads(rows=1)):
        staged = hopper_heads.stages(given, HOPPER)
        assert 2 <= staged <= hopper_heads.SLOTS
        assert hopper_heads.shared_bytes(given, staged) <= HOPPER.shared_bytes
