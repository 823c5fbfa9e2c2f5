"""Convolutions and matrix products on Hopper with too little work for every multiprocessor: sums over k are split among
the blocks of a cluster (kernels/hopper_split_gemm.cu), and weights are fetched before the previous layer has ended.

The same problems as hopper_gemm.py, and the same limits; it offers itself where one wave of its tiles is enough.
"""

import functools
import math
from dataclasses import dataclass, replace

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import hopper_form, hopper_launch
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_launch import STEP
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

NAME = "hopper split gemm"
HEAD_BYTES = 2048
SLOTS = 16
ROOM = {1: 1.0, 2: 1.0, 3: 0.9, 4: 0.9, 6: 0.8, 8: 0.8}  # splits, and the share of the device that such clusters find
SHAPES = ((1, 32), (1, 64), (1, 96), (1, 128), (2, 64), (2, 96), (2, 128), (2, 192), (2, 256))  # warpgroups, columns
LEAST = 16  # results of a row that a block finishes: a panel of 32 bytes
MOST = 8  # candidates
WAVES = 2  # beyond, the persistent kernel is better


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The kernel's choices."""

    warpgroups: int
    columns: int
    stages: int
    splits: int

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return 64 * self.warpgroups

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return f"{self.rows}x{self.columns}, {self.stages} stages, split {self.splits}"

    def shared_bytes(self, form: Form) -> int:
        """Dynamic shared memory: the pipeline, results, and the others' sums."""
        results = form.result_bytes(self.rows, self.columns // self.splits)
        sums = self.rows * self.columns * 4 if self.splits > 1 else 0
        return HEAD_BYTES + self.stages * (self.rows + self.columns) * STEP * 2 + results + sums


class HopperSplitGemm:
    """A Tactic (device/implementation.py). Capability 9.0; float16 or bfloat16 in, the same or float32 out."""

    name = NAME
    reason = "small products fill the device only with split sums, and wait least for weights that come early"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The tiles that ought to be fastest, best first."""
        form = hopper_form.of_problem(problem, constant)
        if form is None or device.capability != 90 or not hopper_launch.takes(problem, form):
            return ()
        ranked = sorted(tiles(form, device), key=lambda tile: cycles(form, tile, device))
        return tuple(
            Candidate(
                tactic=NAME,
                name=tile.name,
                build=functools.partial(implementation, problem, constant, tile, device),
            )
            for tile in ranked[:MOST]
        )


def tiles(form: Form, device: Device) -> list[Tile]:
    """Tiles of which a wave or two are all, with as many stages as a block has steps, or as there is room for."""
    made = []
    for warpgroups, columns in SHAPES:
        if (not form.k_major and columns % 64) or columns >= 2 * max(form.columns, 32):
            continue
        count = hopper_launch.tile_count(form, 64 * warpgroups, columns)
        for splits in ROOM:
            share = -(-hopper_launch.steps(form) // splits)
            if count * splits > WAVES * device.multiprocessors or splits > hopper_launch.steps(form):
                continue
            if columns % (splits * LEAST):
                continue
            made += _sized(form, device, Tile(warpgroups=warpgroups, columns=columns, stages=share, splits=splits))
    return made


def _sized(form: Form, device: Device, tile: Tile) -> list[Tile]:
    """With as many stages as fit, and with so few that the next layer's block finds room beside and waits there."""
    bare = replace(tile, stages=0).shared_bytes(form)
    stage = (tile.rows + tile.columns) * STEP * 2
    fits = (min(SLOTS, tile.stages, (memory - bare) // stage) for memory in (_half(device), device.shared_bytes))
    return [replace(tile, stages=stages) for stages in dict.fromkeys(fits) if stages >= min(3, tile.stages)]


def _half(device: Device) -> int:
    """What a block may have where two share a multiprocessor: each costs a further KiB."""
    return device.shared_bytes // 2 - 512


def cycles(form: Form, tile: Tile, device: Device) -> float:
    """A guess from measurements on an H200: a block's start and end, its steps (products at 2048 a cycle, or loads at
    60 bytes a cycle), the exchange of sums. Large clusters find room on fewer multiprocessors."""
    blocks = hopper_launch.tile_count(form, tile.rows, tile.columns) * tile.splits
    room = device.multiprocessors * ROOM[tile.splits]
    share = -(-hopper_launch.steps(form) // tile.splits)
    step = max(tile.rows * tile.columns * STEP / 2048, (tile.rows + tile.columns) * STEP * 2 / 60, 150.0)
    sent = tile.rows * tile.columns * 4 * (1 - 1 / tile.splits) / 16
    start = 3500 if tile.shared_bytes(form) > _half(device) else 2500
    return start + math.ceil(blocks / room) * (share * step + sent + (400 if tile.splits > 1 else 0))


def implementation(problem: Problem, constant: frozenset[int], tile: Tile, device: Device) -> Implementation:
    """One kernel, launched dependently, a cluster a tile."""
    form = hopper_form.of_problem(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    kernel = Kernel(
        cubin=NAME,
        function="hopper_split_gemm",
        grid=(hopper_launch.tile_count(form, tile.rows, tile.columns) * tile.splits, 1, 1),
        block=(128 * tile.warpgroups + 32, 1, 1),
        cluster=(tile.splits, 1, 1) if tile.splits > 1 else (),
        shared_bytes=tile.shared_bytes(form),
        arguments=_arguments(form, tile),
        dependent=True,
    )
    shape = (tile.warpgroups, tile.columns, tile.stages)
    text = hopper_launch.source(
        "hopper_split_gemm.cu", form, shape, {"SPLITS": tile.splits, "RESULTS": tile.columns // tile.splits}
    )
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={NAME: compiler.compile(text, device.architecture)},
        constants=hopper_launch.packers(form, tile.columns),
    )


def _arguments(form: Form, tile: Tile) -> tuple[Argument, ...]:
    return (
        Argument(tensor_map=hopper_launch.activations_map(form, tile.rows)),
        hopper_launch.second_map(form, tile.rows),
        Argument(tensor_map=hopper_launch.weights_map(form, tile.columns)),
        *hopper_launch.result_maps(form, tile.rows, tile.columns // tile.splits),
        hopper_launch.bias_argument(),
        Argument(value=hopper_launch.geometry(form, tile.rows, tile.columns).hex()),
    )
