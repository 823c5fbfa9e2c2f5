"""The triple of one tile a block, as far as it can be tested without a card: choice, shared memory, the kernel."""

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_builder.tactics import hopper_small_triple
from enginewright_builder.tactics.hopper_small_triple import HopperSmallTriple
from enginewright_builder.tactics.hopper_triple import Parts

HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 * 1024)
CONSTANT = frozenset({1, 2, 3, 4, 7, 8, 9})


def triple(
    outputs: int = 256, following: int = 64, *, images: int = 1, pair: int = 0, dtype: str = "float16"
) -> Problem:
    """Of ResNet-50's first stage, with a residual or with a pair."""

    def pixels(count: int) -> TensorType:
        shape = (images, count, 56, 56)
        return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))

    inputs = (
        pixels(64),
        plain(dtype, (64, 64, 3, 3)),
        plain("float32", (64,)),
        plain(dtype, (outputs, 64, 1, 1)),
        plain("float32", (outputs,)),
        None if pair else pixels(outputs),
        pixels(pair) if pair else None,
        plain(dtype, (outputs, pair, 1, 1)) if pair else None,
        plain(dtype, (following, outputs, 1, 1)),
        plain("float32", (following,)),
    )
    before = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "groups": 1, "activation": "Relu"}
    said = {"activation": "Relu", "before": before, "next": {"activation": "Relu"}, "pair": {"strides": [1, 1]}}
    return Problem(kind=Kind.TRIPLE, inputs=inputs, outputs=(pixels(outputs), pixels(following)), attributes=said)


def parts(given: Problem) -> Parts:
    found = hopper_small_triple.parts(given, CONSTANT)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("given", "count"),
    [(triple(), 1), (triple(images=2), 1), (triple(images=3), 0), (triple(512), 0), (triple(128, 256), 0)],
    ids=["a picture", "two", "more tiles than multiprocessors", "many chunks", "more behind than before"],
)
def test_it_is_offered_where_a_block_has_one_tile(given: Problem, count: int) -> None:
    assert len(HopperSmallTriple().candidates(given, HOPPER, CONSTANT)) == count


def test_all_weights_and_a_tile_fit_into_shared_memory() -> None:
    sizes = [hopper_small_triple.shared_bytes(parts(each)) for each in (triple(), triple(256, 128), triple(pair=64))]
    assert sizes == [194560, 227328, 202752]
    assert max(sizes) <= HOPPER.shared_bytes


def test_a_warpgroup_each_makes_64_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile", lambda _text, _architecture: b"")
    kernel = hopper_small_triple.implementation(triple(192), CONSTANT, HOPPER).steps[0].kernel
    assert kernel is not None
    assert (kernel.grid, kernel.block) == ((49, 1, 1), (3 * 128 + 64, 1, 1))


@pytest.mark.parametrize("given", [triple(), triple(256, 128, dtype="bfloat16"), triple(pair=64)])
def test_it_compiles_without_spilling(given: Problem) -> None:
    said = compiler.resources(hopper_small_triple.source(parts(given)), "sm_90a")
    assert "0 bytes spill stores" in said
    assert "serialized" not in said
