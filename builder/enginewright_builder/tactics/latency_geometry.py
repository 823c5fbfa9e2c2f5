"""The numbers of kernels/hopper_latency_conv.cu for one problem and configuration: sizes, memory, work, packing. Pure.

It repeats the kernel's constants (what a tile of inputs holds, what lies in shared memory), so it must never be changed
without the kernel; the kernel's own static_asserts guard the rest.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from enginewright_builder.device.implementation import Array

OUTPUTS_A_TILE = 64  # output channels of a warpgroup: wgmma's M
COLUMNS = 8  # of a tile
SHARED_BYTES = 227 * 1024  # that a block may have (CUDA C++ Programming Guide, compute capability 9.0)
RESERVED_BYTES = 1024  # that a block takes beside them
LEAST_RING = 4  # slots: fewer come too late
LEAST_MULTIPROCESSORS = 114  # of a Hopper GPU: an H100 for PCIe; others have 132
AWAITED_BYTES = 40 * 1024  # that a block fetches while others of the kernel before still work (docs/performance.md)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A convolution's geometry in two dimensions, (vertical, horizontal); `pad` is what stands before."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    @property
    def is_point(self) -> bool:
        """Whether the kernel is 1x1."""
        return self.kernel == (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be computed: y (images, outputs, height, width) from `channels`, and `pair` of a second input."""

    window: Window
    images: int
    channels: int
    outputs: int
    height: int
    width: int
    pair: int = 0
    residual: bool = False
    pooled: bool = False  # 2x2 at the end: height and width are those of the convolution under it, both even

    @property
    def tiles_across(self) -> int:
        """Tiles beside one another."""
        return -(-self.width // COLUMNS)

    @property
    def columns(self) -> int:
        """Columns that a tile uses: as many in each, not eight and a rest; whole windows where they are pooled."""
        unit = 2 if self.pooled else 1
        return -(-self.width // self.tiles_across // unit) * unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The kernel's choices: `splits` blocks of a cluster share the channels, each takes `blocks` times
    `block_channels`; `rows` of a tile, `groups` (warpgroups) with 64 outputs each, `walk` tiles a block one after the
    other or `abreast` at a time; of the weights `ring` taps of a block of channels are held at a time, or all (0);
    `half` sends sums as float16."""

    block_channels: int
    blocks: int
    splits: int = 1
    rows: int = 7
    groups: int = 1
    walk: int = 1
    abreast: int = 1
    ring: int = 0
    half: bool = False

    @property
    def name(self) -> str:
        """All of it in words; what the timing cache keeps."""
        sums = " as float16" if self.half else ""
        tiles = f"{self.abreast} abreast" if self.abreast > 1 else f"walk {self.walk}"
        tiles += f", ring of {self.ring}" if self.ring else ""
        return (
            f"{self.splits} x {self.blocks} x {self.block_channels} channels{sums}, {self.rows} rows, "
            f"{self.groups * OUTPUTS_A_TILE} outputs, {tiles}"
        )

    def packing(self) -> "Configuration":
        """Equal for configurations that want their constants packed alike."""
        return replace(self, rows=1, walk=1, abreast=1, ring=0, half=False)

    @property
    def threads(self) -> int:
        """Of a block."""
        return 128 * self.groups * self.abreast

    @property
    def buffers(self) -> int:
        """Tiles that a block holds at a time."""
        return 2 if self.walk > 1 else self.abreast

    def virtual_channels(self) -> int:
        """Channels that a cluster sums, the filling included."""
        return self.splits * self.blocks * self.block_channels

    def pair_from(self, channels: int) -> int:
        """Where the pair's channels begin: at the next whole block."""
        return -(-channels // self.block_channels) * self.block_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """The tile of inputs under a tile of outputs, as the copy engine brings it: `parts` boxes of rows x columns pixels,
    in each `steps` (vertical, horizontal) elements apart."""

    parts: int
    rows: int
    columns: int
    steps: tuple[int, int]

    @property
    def box(self) -> tuple[int, int]:
        """(columns, rows) that a box spans in the tensor, the skipped ones included."""
        return ((self.columns - 1) * self.steps[1] + 1, (self.rows - 1) * self.steps[0] + 1)


def input_tile(window: Window, rows: int) -> Tile:
    """What `rows` x 8 outputs need. A kernel of one row skips the rows that it does not need."""
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    dilation_h, dilation_w = window.dilation
    parts = max(s * dilation_w % stride_w for s in range(kernel_w)) + 1
    columns = COLUMNS + (kernel_w - 1) * dilation_w // stride_w
    if kernel_h == 1:
        return Tile(parts=parts, rows=rows, columns=columns, steps=(stride_h, stride_w))
    tall = (rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1
    return Tile(parts=parts, rows=tall, columns=columns, steps=(1, stride_w))


def weight_bytes(window: Window, configuration: Configuration) -> int:
    """The weights of one warpgroup of one block."""
    taps = math.prod(window.kernel)
    return taps * configuration.blocks * configuration.block_channels * OUTPUTS_A_TILE * 2


def shared_bytes(work: Work, configuration: Configuration) -> int:
    """The kernel's dynamic shared memory: barriers, weights, buffers."""
    window, rows = work.window, configuration.rows
    tile = input_tile(window, rows)
    part = _up(tile.rows * tile.columns * configuration.block_channels * 2, 1024)
    if configuration.splits == 1:
        finish = rows * COLUMNS * OUTPUTS_A_TILE * 2 // (4 if work.pooled else 1)
    else:
        share = padded_rows(rows) * 128 // configuration.splits
        finish = (configuration.splits - 1) * share * (8 if configuration.half else 16)
    buffer = configuration.blocks * tile.parts * part + _up(finish * configuration.groups, 1024)
    weights = weight_bytes(window, configuration) * configuration.groups
    if configuration.ring:
        weights = configuration.ring * configuration.block_channels * OUTPUTS_A_TILE * 2 * configuration.groups
    return 1024 + weights + buffer * configuration.buffers


def with_ring(work: Work, configuration: Configuration) -> Configuration:
    """Where its weights do not fit whole: the same with a ring of as many taps as fit. A block that walks needs them
    whole."""
    most = shared_bytes(work, configuration)
    if configuration.walk > 1 or most <= SHARED_BYTES:
        return configuration
    tap = configuration.block_channels * OUTPUTS_A_TILE * 2 * configuration.groups
    slots = (SHARED_BYTES - most + weight_bytes(work.window, configuration) * configuration.groups) // tap
    return replace(configuration, ring=slots) if slots >= LEAST_RING else configuration


def pieces(work: Work, configuration: Configuration) -> tuple[int, int, int]:
    """How many the weights come in, those held at a time, and those fetched before the wait for the previous kernel.

    Whole, where this kernel's blocks find room beside that one's. Where they do not, they begin when that ends, with
    everything still to come, and the pixels would wait behind all weights: then a row of taps of a block of channels
    each, before the wait as many as come until that kernel's last block has ended. Whole too where a 1x1 kernel
    multiplies so briefly that nothing is gained.
    """
    window, ring = work.window, configuration.ring
    twice = 2 * (shared_bytes(work, configuration) + RESERVED_BYTES) <= SHARED_BYTES + RESERVED_BYTES
    spare = 2 * math.prod(grid(work, configuration)) <= LEAST_MULTIPROCESSORS
    if not ring and (twice or spare or window.is_point):
        return 1, 1, 1
    count = configuration.blocks * (math.prod(window.kernel) if ring else window.kernel[0])
    held = ring or count
    piece = weight_bytes(window, configuration) * configuration.groups // count
    return count, held, held if spare else max(1, min(AWAITED_BYTES // piece, held))


def barrier_bytes(window: Window, configuration: Configuration) -> int:
    """How far the barriers may reach into their KiB: two and one a block of channels for each buffer, the weights'."""
    return 8 * (
        (2 + configuration.blocks) * configuration.buffers
        + max(configuration.blocks * window.kernel[0], 2 * configuration.ring)
    )


def padded_rows(rows: int) -> int:
    """The next power of two."""
    return 1 << (rows - 1).bit_length()


def grid(work: Work, configuration: Configuration) -> tuple[int, int, int]:
    """Blocks: outputs and splits, tiles across, tiles down of all images over those of a block."""
    outputs = -(-work.outputs // (OUTPUTS_A_TILE * configuration.groups))
    items = work.images * -(-work.height // configuration.rows)
    down = -(-items // (configuration.walk * configuration.abreast))
    return (outputs * configuration.splits, work.tiles_across, down)


def pack_weights(weights: Array, pair: Array | None, configuration: Configuration) -> Array:
    """Weights (k, c, r, s), and the pair's (k, c', 1, 1) behind its channels, as blocks copy them whole: for each tile
    of 64 outputs and each split the steps of wgmma, block by block, tap by tap, 16 channels each; a step is two chunks
    of 64 outputs x 8 channels. Outputs stand so that the two that a thread holds together (rows g and g + 8 of 16) are
    neighbours. Filled with zeros."""
    block, splits, blocks = configuration.block_channels, configuration.splits, configuration.blocks
    outputs, channels, kernel_h, kernel_w = weights.shape
    tile = OUTPUTS_A_TILE * configuration.groups
    whole = np.zeros((_up(outputs, tile), configuration.virtual_channels(), kernel_h, kernel_w), dtype=weights.dtype)
    whole[:outputs, :channels] = weights
    if pair is not None:
        begin = configuration.pair_from(channels)
        whole[:outputs, begin : begin + pair.shape[1]] = pair
    row = np.arange(OUTPUTS_A_TILE)
    order = (row & ~15) + 2 * (row & 7) + (row >> 3 & 1)
    parts = whole.reshape(-1, OUTPUTS_A_TILE, splits, blocks, block // 16, 2, 8, kernel_h * kernel_w)[:, order]
    #        tile of outputs, split, block, tap, 16 channels, chunk, output, channel of the chunk
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 7, 4, 5, 1, 6))


def pack_bias(bias: Array | None, outputs: int, configuration: Configuration) -> Array:
    """float32, filled with zeros to whole blocks."""
    whole = np.zeros(_up(outputs, OUTPUTS_A_TILE * configuration.groups), dtype=np.float32)
    if bias is not None:
        whole[:outputs] = bias.astype(np.float32)
    return whole


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
