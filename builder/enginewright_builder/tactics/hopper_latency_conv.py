"""Small-batch convolutions on Hopper by our own kernel (kernels/hopper_latency_conv.cu): one launch a layer, whose time
is latency, not arithmetic. ResNet-50's layers at batch 1 take 1.3 to 3 microseconds each.

It never offers what the copy engine can't address or what doesn't fit into a block's shared memory: `refusal` says
why. A configuration that sends sums between blocks as float16 rounds each of them to 11 bits; whether that stays within
the layer's error bound is the tuner's to check, as of every candidate.

A problem may carry a *pair*: y = activation(conv(x, w) + conv(x', w') + bias) with both kernels 1x1, as where a
residual block ends and its downsampling convolution joins. Then inputs 4 and 5 are x' and w', there is no residual,
and attributes["pair"] is {"strides": [..]} of the second; `bias` is the sum of both.
"""

import functools
import struct
from collections.abc import Callable, Iterable

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import later, retention
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Kind, Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.tactics import epilogue_text, hopper_pool, latency_choice, latency_geometry
from enginewright_builder.tactics.kernel_text import kernel_text
from enginewright_builder.tactics.latency_geometry import Configuration, Window, Work, input_tile
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step, TensorMap

NAME = "hopper latency convolution"
X, WEIGHTS, BIAS, RESIDUAL, PAIR, PAIR_WEIGHTS = range(6)
ANOTHER_POOL = "its max pool is not 2x2 with stride 2, or comes behind a residual or a pair"
NOTHING_FITS = "no configuration fits into shared memory, or it is no small batch"


class HopperLatencyConvolution:
    """A Tactic (device/implementation.py). Capability 9.0, float16 or bfloat16, NHWC, constant weights."""

    name = NAME
    reason = "at small batches a layer's time is latency: weights come before the previous layer ends, sums are split"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """The configurations that latency_choice's model finds best, best first."""
        if refusal(problem, device, constant):
            return ()
        return tuple(
            Candidate(
                tactic=NAME,
                name=each.name,
                build=functools.partial(implementation, problem, each, device.architecture),
            )
            for each in _configurations(problem, device)
        )


def refusal(problem: Problem, device: Device, constant: frozenset[int]) -> str:
    """Why the tactic does not take a problem, as the end of a sentence; "" where it does."""
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: problem.kind is Kind.CONVOLUTION, "it is no convolution"),
        (lambda: device.capability == 90, "its instructions exist on compute capability 9.0 alone"),
        (lambda: _dtypes(problem) in ({"float16"}, {"bfloat16"}), "its operands are not all float16 or all bfloat16"),
        (lambda: len(problem.outputs[0].shape) == 4, "it is not two-dimensional"),
        (lambda: problem.attributes.get("groups", 1) == 1, "it is grouped"),
        (lambda: _constants(problem) <= constant, "its weights or bias are not constant"),
        (lambda: all(map(_addressable, _activations(problem))), "an operand is not NHWC with pixels in 16-byte units"),
        (lambda: problem.outputs[0].shape[1] % 8 == 0, "its output channels are no multiple of 8"),
        (lambda: _pair_fits(problem), "its pair is not of two 1x1 convolutions without padding and residual"),
        (lambda: hopper_pool.side(problem) > 0, ANOTHER_POOL),
        (lambda: max(_box(problem)) <= 256 and max(_window(problem).stride) <= 4, "its window is too large for a box"),
        (lambda: bool(_configurations(problem, device)), NOTHING_FITS),
    )
    return next((reason for holds, reason in checks if not holds()), "")


def _configurations(problem: Problem, device: Device) -> tuple[Configuration, ...]:
    return latency_choice.configurations(work_of(problem), device.multiprocessors, problem.outputs[0].dtype)


def work_of(problem: Problem) -> Work:
    """The problem's sizes."""
    images, outputs, height, width = problem.outputs[0].shape
    pair = problem.inputs[PAIR] if "pair" in problem.attributes else None
    side = hopper_pool.side(problem)
    return Work(
        window=_window(problem),
        images=images,
        channels=_given(problem, X).shape[1],
        outputs=outputs,
        height=height * side,
        width=width * side,
        pair=pair.shape[1] if pair is not None else 0,
        residual=_residual(problem) is not None,
        pooled=side > 1,
    )


def implementation(problem: Problem, configuration: Configuration, architecture: str) -> Implementation:
    """One kernel, launched dependently."""
    work = work_of(problem)
    kernel = Kernel(
        cubin="convolution",
        function="convolution",
        grid=latency_geometry.grid(work, configuration),
        block=(configuration.threads, 1, 1),
        cluster=(configuration.splits, 1, 1) if configuration.splits > 1 else (),
        shared_bytes=latency_geometry.shared_bytes(work, configuration),
        arguments=_arguments(problem, configuration),
        dependent=True,
    )
    dtype, packing = problem.outputs[0].dtype, configuration.packing()
    return Implementation(
        steps=(Step(layer="", kernel=kernel),),
        cubins={"convolution": compiler.compile(source(problem, configuration), architecture, ())},
        constants={
            "weights": functools.partial(_packed_weights, packing, dtype),
            "bias": functools.partial(_packed_bias, packing, work.outputs),
        },
        fetches_later=True,
    )


def source(problem: Problem, configuration: Configuration) -> str:
    """The kernel's text with its choices before it."""
    work, window = work_of(problem), _window(problem)
    pair_strides = _pair_strides(problem) if work.pair else (1, 1)
    pieces, slots, early = latency_geometry.pieces(work, configuration)
    choices = {
        "ELEMENT_IS_BFLOAT16": int(problem.outputs[0].dtype == "bfloat16"),
        "KERNEL_H": window.kernel[0],
        "KERNEL_W": window.kernel[1],
        "STRIDE_H": window.stride[0],
        "STRIDE_W": window.stride[1],
        "PAD_H": window.pad[0],
        "PAD_W": window.pad[1],
        "DILATION_H": window.dilation[0],
        "DILATION_W": window.dilation[1],
        "BLOCK_CHANNELS": configuration.block_channels,
        "BLOCKS": configuration.blocks,
        "SPLITS": configuration.splits,
        "TILE_ROWS": configuration.rows,
        "WARPGROUPS": configuration.groups,
        "ABREAST": configuration.abreast,
        "PIECES": pieces,
        "SLOTS": slots,
        "EARLY": early,
        "HALF_PARTIALS": int(configuration.half),
        "RESIDUAL": int(work.residual),
        "PAIR": int(work.pair > 0),
        "PAIR_FROM": configuration.pair_from(work.channels),
        "PAIR_STRIDE_H": pair_strides[0],
        "PAIR_STRIDE_W": pair_strides[1],
        "POOL": int(work.pooled),
        "MEAN": int(bool(problem.attributes.get("mean"))),
        "WALK": int(configuration.walk > 1),
        "BATCH": int(work.images > 1),
        "FINISH(a, b, r)": epilogue_text.packed(problem.attributes, residual=work.residual),
    }
    return kernel_text("hopper_latency_conv.cu", choices, epilogue_text.function(problem.attributes))


def _arguments(problem: Problem, configuration: Configuration) -> tuple[Argument, ...]:
    """In the kernel's order. A map that the configuration does not read is the first one again."""
    work, y = work_of(problem), problem.outputs[0]
    tile = input_tile(work.window, configuration.rows)
    boxed = configuration.block_channels
    x = _map(problem, X, boxed, tile.box, (tile.steps[1], tile.steps[0]))
    pair, residual = x, x
    if work.pair:
        down, across = _pair_strides(problem)
        box = (7 * across + 1, (configuration.rows - 1) * down + 1)
        pair = _map(problem, PAIR, boxed, box, (across, down))
    if work.residual:
        residual = _map(problem, RESIDUAL, latency_geometry.OUTPUTS_A_TILE, (8, configuration.rows), (1, 1))
    added = _residual(problem) or y
    tiles_down = -(-work.height // configuration.rows)
    sizes = struct.pack(
        "<11i4x2Q",
        *(*y.shape[1:], work.columns, tiles_down, work.images * tiles_down),
        configuration.walk,
        *(y.strides[3], y.strides[2], added.strides[3], added.strides[2]),
        *(y.strides[0], added.strides[0]),
    )
    output = Pointer(space=Space.OPERAND, name=str(len(problem.inputs)))
    residual_pointer = Pointer(space=Space.OPERAND, name=str(RESIDUAL)) if work.residual else output
    weights = Pointer(space=Space.CONSTANT, name="weights")
    return (
        Argument(tensor_map=x),
        Argument(tensor_map=pair),
        Argument(tensor_map=residual),
        Argument(pointer=weights),
        Argument(pointer=Pointer(space=Space.CONSTANT, name="bias")),
        Argument(pointer=output),
        Argument(pointer=residual_pointer),
        Argument(value=sizes.hex()),
        *later.nothing(weights),
        retention.argument(first_to_leave=False),
    )


def _map(problem: Problem, operand: int, channels: int, box: tuple[int, int], steps: tuple[int, int]) -> TensorMap:
    """`box` and `steps` are (columns, rows)."""
    type_ = _given(problem, operand)
    images, depth, height, width = type_.shape
    return TensorMap(
        pointer=Pointer(space=Space.OPERAND, name=str(operand)),
        dtype=type_.dtype,
        dims=(depth, width, height, images),
        strides=(type_.strides[3] * 2, type_.strides[2] * 2, type_.strides[0] * 2),
        box=(channels, *box, 1),
        element_strides=(1, *steps, 1),
        swizzle=channels * 2,
        l2_promotion=0,
    )


def _packed_weights(configuration: Configuration, dtype: str, constants: Constants) -> Array:
    weights = constants[WEIGHTS]
    if weights.dtype.name != dtype:
        raise AssertionError(f"weights of a {dtype} problem are {weights.dtype.name}")
    return latency_geometry.pack_weights(weights, constants.get(PAIR_WEIGHTS), configuration)


def _packed_bias(configuration: Configuration, outputs: int, constants: Constants) -> Array:
    return latency_geometry.pack_bias(constants.get(BIAS), outputs, configuration)


def _given(problem: Problem, operand: int) -> TensorType:
    type_ = problem.inputs[operand]
    if type_ is None:
        raise AssertionError(f"operand {operand} of a convolution is absent")
    return type_


def _residual(problem: Problem) -> TensorType | None:
    return problem.inputs[RESIDUAL] if len(problem.inputs) > RESIDUAL else None


def _activations(problem: Problem) -> list[TensorType]:
    """The operands that lie as pixels: all but weights and bias."""
    numbers = (X, RESIDUAL, PAIR)
    given = [problem.inputs[number] for number in numbers if number < len(problem.inputs)]
    return [*(each for each in given if each is not None), problem.outputs[0]]


def _dtypes(problem: Problem) -> set[str]:
    return {each.dtype for each in (*_activations(problem), _given(problem, WEIGHTS))}


def _constants(problem: Problem) -> set[int]:
    numbers = (WEIGHTS, BIAS, PAIR_WEIGHTS)
    return {number for number in numbers if number < len(problem.inputs) and problem.inputs[number] is not None}


def _addressable(type_: TensorType) -> bool:
    """Whether the copy engine can: dimension 1 innermost, every other step a multiple of 16 bytes."""
    (images, channels, height, width), steps = type_.shape, type_.strides
    extents = ((images, steps[0]), (height, steps[2]), (width, steps[3]))
    return (steps[1] == 1 or channels == 1) and all(step % 8 == 0 and step > 0 for _, step in extents)


def _window(problem: Problem) -> Window:
    (kernel, attributes) = _given(problem, WEIGHTS).shape[2:], problem.attributes
    return Window(
        kernel=(kernel[0], kernel[1]),
        stride=_two(attributes.get("strides", (1, 1))),
        pad=_two(attributes.get("pads", (0, 0))),
        dilation=_two(attributes.get("dilations", (1, 1))),
    )


def _two(values: Iterable[int]) -> tuple[int, int]:
    first, second = tuple(values)[:2]
    return (int(first), int(second))


def _pair_strides(problem: Problem) -> tuple[int, int]:
    return _two(problem.attributes["pair"].get("strides", (1, 1)))


def _pair_fits(problem: Problem) -> bool:
    if "pair" not in problem.attributes:
        return len(problem.inputs) <= PAIR
    if len(problem.inputs) != PAIR_WEIGHTS + 1 or _residual(problem) is not None:
        return False
    both = (_given(problem, WEIGHTS).shape[2:], _given(problem, PAIR_WEIGHTS).shape[2:])
    padded = any(problem.attributes["pair"].get("pads", ()))
    return both == ((1, 1), (1, 1)) and max(_pair_strides(problem)) <= 4 and not padded


def _box(problem: Problem) -> tuple[int, int]:
    return input_tile(_window(problem), 8).box
