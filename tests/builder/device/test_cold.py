"""A chain whose launches each bring weights of their own, for networks whose weights leave the L2 cache."""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder.device import checking, cold, layout, lower, retention, trial
from enginewright_builder.device.implementation import Array, Candidate, Device, Implementation
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tuning.tactics import Tuner
from enginewright_builder.tuning.timings import Timings
from enginewright_runtime.engine.cuda import validation
from enginewright_runtime.engine.cuda.program import (
    Argument,
    Copy,
    DeviceProgram,
    Kernel,
    Pointer,
    Space,
    Step,
    Tensor,
    TensorMap,
)
from enginewright_runtime.plan.recipe import Effort

BLOBS = {"k": b"cubin", "w": bytes(4096), "b": bytes(64)}
L2 = 1 << 20
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
shifted (float[4] x) => (float[4] y) <float[4] c = {1, 2, 3, 4}, float[4] d = {5, 6, 7, 8}, float[4] e = {9, 8, 7, 6}>
{
    a = Add (x, c)
    b = Add (a, d)
    y = Add (b, e)
}
"""
HELD = 16  # bytes of a layer's weights


def pointer(space: Space, name: str) -> Argument:
    return Argument(pointer=Pointer(space=space, name=name, offset=16))


def program(*weights: str) -> DeviceProgram:
    """One launch that reads x and these weights, the first by a tensor map, writes y and can ask for later weights."""
    arguments = [pointer(Space.INPUT, "x"), pointer(Space.OUTPUT, "y")]
    arguments += [pointer(Space.BLOB, name) for name in weights]
    if weights:
        first = Pointer(space=Space.BLOB, name=weights[0])
        arguments.append(
            Argument(tensor_map=TensorMap(pointer=first, dtype="float16", dims=(8, 8), strides=(16,), box=(8, 8)))
        )
    asks = Argument(pointer=Pointer(space=Space.INPUT, name="x")), Argument(value=struct.pack("<2I", 0, 0).hex())
    kernel = Kernel(
        cubin="k", function="f", grid=(4, 1, 1), block=(32, 1, 1),
        arguments=(*arguments, *asks, retention.argument(first_to_leave=False)),
    )  # fmt: skip
    x, y = (Tensor(name=name, dtype="float32", shape=(8,), bytes=32) for name in ("x", "y"))
    return DeviceProgram(inputs=(x,), outputs=(y,), arena_bytes=0, steps=(Step(layer="l", kernel=kernel),))


def names(step: Step) -> list[str]:
    return [each.name for each in validation.pointers(step)]


def test_each_pass_has_weights_of_its_own_and_the_same_operands() -> None:
    row = cold.row(program("w", "b"), BLOBS, 3, asks=False, l2_bytes=L2)
    assert row.launches == 3
    assert [names(step) for step in row.program.steps] == [
        ["x", "y", "w", "b", "w", "x"],
        ["x", "y", "w of pass 1", "b of pass 1", "w of pass 1", "x"],
        ["x", "y", "w of pass 2", "b of pass 2", "w of pass 2", "x"],
    ]
    for name in ("w", "b"):
        assert row.blobs[f"{name} of pass 2"] == BLOBS[name]
    validation.check(row.program, what="the row", blob_bytes={n: len(b) for n, b in row.blobs.items()}.get)


def test_a_pass_that_can_asks_for_the_weights_of_a_later_one_as_in_the_network() -> None:
    steps = cold.row(program("w"), BLOBS, 5, asks=True, l2_bytes=L2).program.steps
    assert [names(step)[-1] for step in steps] == ["w of pass 3", "w of pass 4", "x", "x", "x"]


@pytest.mark.parametrize(("given", "l2_bytes"), [(program(), L2), (program("w"), 4095), (program("w"), 0)])
def test_who_has_no_weights_or_more_than_the_cache_holds_stays_as_it_is(given: DeviceProgram, l2_bytes: int) -> None:
    row = cold.row(given, BLOBS, 3, asks=False, l2_bytes=l2_bytes)
    assert (row.program, row.blobs, row.launches) == (given, BLOBS, 1)


def layers() -> tuple[list[lower.DeviceLayer], Mapping[str, layout.Place]]:
    """Three layers, each with weights of its own."""
    network = Network(ir.from_onnx_text(MODEL))
    shapes.infer(network)
    for number, node in enumerate(network.layers()):
        node.name = f"add {number}"
    placed = layout.assign(network)
    return lower.lower(network, placed.places, placed.free), placed.places


def test_weights_leave_a_cache_of_half_their_size_and_count_once() -> None:
    (first, second, _), _ = layers()
    assert cold.leaves([first, second], 2 * HELD // cold.TIMES)
    assert not cold.leaves([first, second], 2 * HELD // cold.TIMES + 1)
    assert not cold.leaves([first, first, first], 2 * HELD // cold.TIMES)


@dataclass
class Watching:
    """A bench without a GPU, whose programs add c; it notes what was timed."""

    timed: list[tuple[int, int, bool]] = field(default_factory=list)  # steps, repeats, cold

    @contextmanager
    def opened(self, program: DeviceProgram, blobs: Mapping[str, bytes]) -> Iterator["_Running"]:
        yield _Running(self, program, blobs)


@dataclass
class _Running:
    bench: Watching
    program: DeviceProgram
    blobs: Mapping[str, bytes]

    def run(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        copy = self.program.steps[-1].copy
        assert copy is not None
        added = np.frombuffer(self.blobs[copy.source.name], np.float32)
        (x,) = feed.values()
        return {self.program.outputs[0].name: x + added}

    def microseconds(self, repeats: int, *, cold: bool = False) -> float:
        self.bench.timed.append((len(self.program.steps), repeats, cold))
        return 2.0 * len(self.program.steps)


COPY = Step(
    layer="",
    copy=Copy(source=Pointer(space=Space.OPERAND, name="1"), target=Pointer(space=Space.OPERAND, name="2"), bytes=HELD),
)
IMPLEMENTATION = Implementation(steps=(COPY,))
COLD, WARM = (trial.CHAIN, 1, True), (1, trial.CHAIN, False)


@pytest.mark.parametrize(("leaves", "timed"), [(L2, COLD), (HELD - 1, WARM), (0, WARM)])
def test_a_candidate_is_timed_cold_where_the_weights_leave(leaves: int, timed: tuple[int, int, bool]) -> None:
    (layer, *_), places = layers()
    bench, tried = Watching(), trial.subject(layer, places, checking.check(layer))
    judged = trial.judge(tried, IMPLEMENTATION, bench, leaves=leaves)
    assert (judged.wrong, judged.microseconds) == ("", 2.0)
    assert bench.timed == [timed]


@pytest.mark.parametrize(("l2_bytes", "timed"), [(3 * HELD // cold.TIMES, COLD), (3 * HELD // cold.TIMES + 1, WARM)])
def test_a_tuners_chains_are_cold_where_its_networks_weights_leave(l2_bytes: int, timed: tuple[int, int, bool]) -> None:
    bench = Watching()
    tuner = Tuner(
        offer=lambda _layer, _tactic: [Candidate(tactic="test", name="it", build=lambda: IMPLEMENTATION)],
        bench=bench,
        device=Device(capability=90, multiprocessors=132, l2_bytes=l2_bytes, shared_bytes=227 << 10),
        timings=Timings(None),
        effort=Effort.FAST,
        workspace=0,
        builder="test",
        step=lambda _what: None,
    )
    tuner.tune(*layers(), lambda _line: 1.0)
    assert set(bench.timed) == {timed}
