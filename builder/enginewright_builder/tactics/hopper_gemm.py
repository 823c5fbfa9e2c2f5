"""Convolutions and matrix products at throughput on Hopper: one persistent, warp-specialized kernel
(kernels/hopper_gemm.cu) for every shape whose operands the copy engine can address.

It must never offer what TMA cannot address or what no block's shared memory holds; hopper_form.py says what a problem
comes to, hopper_launch.py what the kernel is given, this module chooses tiles. A problem may carry a pair (inputs 4 and
5, attributes["pair"] with its strides): a second picture's 1x1 convolution, added before the activation.
"""

import functools
from dataclasses import dataclass

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import hopper_form, hopper_launch
from enginewright_builder.tactics.hopper_form import Form
from enginewright_builder.tactics.hopper_launch import STEP, steps
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Step

NAME = "hopper gemm"
HEAD_BYTES = 2048  # barriers, and what alignment to 1024 bytes may take
SLOTS = 8  # barriers of a kind that fit into their 64 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The kernel's choices: `warpgroups` consumers, `columns` of a tile, buffers of the pipeline and of results."""

    warpgroups: int
    columns: int
    stages: int
    staging: int
    pingpong: bool = False

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return 128 if self.pingpong else 64 * self.warpgroups

    @property
    def threads(self) -> int:
        """Consumers, and the warps that load and store: a whole warpgroup where it gives registers away."""
        crowded = self.warpgroups > 1 and self.columns * (2 if self.pingpong else 1) > 192
        return 128 * self.warpgroups + (128 if crowded else 64)

    @property
    def name(self) -> str:
        """What the timing cache keeps."""
        return (
            f"{self.rows}x{self.columns}{' ping-pong' if self.pingpong else ''}, "
            f"{self.stages} stages, {self.staging} staged"
        )

    def shared_bytes(self, form: Form) -> int:
        """Dynamic shared memory."""
        stages = self.stages * (self.rows + self.columns) * STEP * 2
        return HEAD_BYTES + stages + self.staging * form.result_bytes(self.rows, self.columns)


KINDS = ((1, False, 256), (2, False, 256), (3, False, 128), (2, True, 128))  # warpgroups, ping-pong, columns at most
PLAIN = (64, 128, 192, 256)  # columns that are always worth a try; others where they fill the last wave better
BEST = 2  # of the others
MOST = 10  # candidates: on an H200 the fastest was among the first nine of every layer tried


class HopperGemm:
    """A Tactic (device/implementation.py). Capability 9.0; float16 or bfloat16 in, the same or float32 out."""

    name = NAME
    reason = "large layers run at the tensor cores' or the memory's full rate"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The tiles that ought to be fastest, best first."""
        form = hopper_form.of_problem(problem, constant)
        if form is None or device.capability != 90 or not hopper_launch.takes(problem, form):
            return ()
        ranked = sorted(tiles(form, device), key=lambda tile: (cycles(form, tile, device), -tile.stages))
        return tuple(
            Candidate(
                tactic=NAME,
                name=tile.name,
                build=functools.partial(implementation, problem, constant, tile, device),
            )
            for tile in ranked[:MOST]
        )


def tiles(form: Form, device: Device) -> list[Tile]:
    """The choices whose buffers fit: plain widths of tiles, and those others that promise the most."""
    made = []
    for warpgroups, pingpong, most in KINDS:
        unit = 16 if form.k_major else 64
        widths = [w for w in range(max(unit, 48), most + 1, unit) if w < form.columns + unit]
        plain = [w for w in PLAIN if w <= most and w < 2 * max(form.columns, 64)]
        sized = {w: _staged(form, device, warpgroups, w, pingpong) for w in {*widths, *plain}}
        others = sorted(
            (w for w in widths if w not in plain and sized[w]), key=lambda w: cycles(form, sized[w][0], device)
        )
        made += [tile for w in [*plain, *others[:BEST]] for tile in sized[w]]
    return made


def _staged(form: Form, device: Device, warpgroups: int, columns: int, pingpong: bool) -> list[Tile]:
    """Room for two results at a time, or for one and more stages of the pipeline."""
    made = []
    for staging in (2, 1):
        bare = Tile(warpgroups=warpgroups, columns=columns, stages=0, staging=staging, pingpong=pingpong)
        stages = min(SLOTS, (device.shared_bytes - bare.shared_bytes(form)) // ((bare.rows + columns) * STEP * 2))
        if stages >= 2 and (staging == 2 or (stages < 5 and not pingpong)):
            made.append(Tile(warpgroups=warpgroups, columns=columns, stages=stages, staging=staging, pingpong=pingpong))
    return made


def cycles(form: Form, tile: Tile, device: Device) -> float:
    """A guess: waves of tiles, bound by products (2048 a cycle) or loads (56 bytes a cycle), then stored."""
    products = tile.rows * tile.columns * STEP / 2048
    loads = (tile.rows + tile.columns) * STEP * 2 / 56
    store = form.result_bytes(tile.rows, tile.columns) * (2 if form.residual else 1) / 32 / (2 if tile.pingpong else 1)
    waves = -(-hopper_launch.tile_count(form, tile.rows, tile.columns) // device.multiprocessors)
    return 1500 + waves * (steps(form) * max(products, loads, 200) + store + 300)


def implementation(problem: Problem, constant: frozenset[int], tile: Tile, device: Device) -> Implementation:
    """One kernel, launched dependently, a block a multiprocessor."""
    form = hopper_form.of_problem(problem, constant)
    assert form is not None, "a candidate was made of this problem"
    count = hopper_launch.tile_count(form, tile.rows, tile.columns)
    kernel = Kernel(
        cubin=NAME,
        function="hopper_gemm",
        grid=(min(count, device.multiprocessors), 1, 1),
        block=(tile.threads, 1, 1),
        shared_bytes=tile.shared_bytes(form),
        arguments=_arguments(form, tile),
        dependent=True,
    )
    choices = {"STAGING": tile.staging, "PINGPONG": int(tile.pingpong)}
    text = hopper_launch.source("hopper_gemm.cu", form, (tile.warpgroups, tile.columns, tile.stages), choices)
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
        *hopper_launch.result_maps(form, tile.rows, tile.columns),
        hopper_launch.bias_argument(),
        Argument(value=hopper_launch.geometry(form, tile.rows, tile.columns).hex()),
    )
