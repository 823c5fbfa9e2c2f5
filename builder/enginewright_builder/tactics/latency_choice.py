"""Which configurations of the latency convolution are worth timing: all that fit, ranked by a model of time. Pure.

The model need not be right, only sort the best into the first dozen: the tuner times those.
"""

import math
from functools import cache

from enginewright_builder.tactics.latency_geometry import (
    OUTPUTS_A_TILE,
    SHARED_BYTES,
    Configuration,
    Work,
    barrier_bytes,
    grid,
    input_tile,
    padded_rows,
    shared_bytes,
    weight_bytes,
    with_ring,
)

LIMIT = 12  # configurations that are offered
SPLITS = (1, 2, 4, 8)  # a portable cluster has at most 8 blocks
WALKS = (1, 2, 3, 4, 6, 8, 12, 16)
ABREAST = (2, 3, 4)
MOST_THREADS = 512  # of a block: they have 128 registers each
HELD_IN_CLUSTERS = 10 / 11  # of the blocks that an H200 holds at once, where they come in fours or eights: 120 for 132
MOST_ROWS, LEAST_ROWS = 8, 4
MOST_MICROSECONDS = 60.0  # beyond that a layer is no matter of latency


@cache  # a tactic asks whether there are any, and then which
def configurations(work: Work, multiprocessors: int, dtype: str) -> tuple[Configuration, ...]:
    """At most LIMIT, the quickest by the model first; empty where nothing fits. One at least sums in float32 alone."""
    timed = [(microseconds(work, each, multiprocessors), each) for each in every(work, dtype) if fits(work, each)]
    timed = sorted((pair for pair in timed if pair[0] <= MOST_MICROSECONDS), key=lambda pair: (pair[0], pair[1].name))
    offered = [each for _, each in timed[:LIMIT]]
    exact = next((each for _, each in timed if not each.half), None)
    if exact is not None and exact not in offered:
        offered[-1] = exact
    return tuple(offered)


def microseconds(work: Work, configuration: Configuration, multiprocessors: int) -> float:
    """The model: a linear fit to 1106 timings of ResNet-50's layers at batch 1 and 8 on an H200, in chains of equal
    launches, in what a multiprocessor does one after the other and what the L2 has to give. It is off by 14 percent in
    the mean; among its best eight is one within 1.5 percent of the best that was measured, for every layer. Tiles
    abreast came later: 105 timings at batch 8, off by 11 percent, the best of each layer among the first eight where a
    layer was faster than by other tactics."""
    rows, groups, splits, walk = configuration.rows, configuration.groups, configuration.splits, configuration.walk
    tile = input_tile(work.window, rows)
    blocks = math.prod(grid(work, configuration))
    memory = shared_bytes(work, configuration) + 1024
    abreast = configuration.abreast
    resident = max(min(SHARED_BYTES // memory, 16 // (groups * abreast)), 1)
    held = int(multiprocessors * resident * (HELD_IN_CLUSTERS if splits > 2 else 1))
    waves = -(-blocks // held)
    together = min(resident, -(-blocks // multiprocessors))  # blocks on a multiprocessor at a time
    channels = configuration.blocks * configuration.block_channels
    steps = math.prod(work.window.kernel) * channels // 16 * walk
    pixels = tile.parts * tile.rows * tile.columns * channels * 2 * walk * abreast
    pushed = (
        rows * 8 * OUTPUTS_A_TILE * (2 if configuration.half else 4) * (splits - 1) / splits * groups * walk * abreast
    )
    time = 0.890 + blocks * weight_bytes(work.window, configuration) * groups * 1.314e-7
    time += waves * steps * (0.00914 + 0.00184 / 7 * rows * groups * abreast * together)
    time += waves * together * (pixels * 3.70e-6 + rows * groups * walk * abreast * 0.02763 + pushed * 5.46e-5)
    return time + waves * ((walk - 1) * (0.251 + 0.968 * (splits > 1)) + (abreast - 1) * 0.3)


def every(work: Work, dtype: str) -> list[Configuration]:
    """All configurations, whether they fit or not."""
    items = work.images * -(-work.height // 7)
    orders = [(walk, 1) for walk in WALKS if walk == 1 or walk <= items]
    orders += [(1, abreast) for abreast in ABREAST if abreast <= items]
    groups = (1, 2) if work.outputs > OUTPUTS_A_TILE else (1,)
    return [
        with_ring(
            work,
            Configuration(
                block_channels=block,
                blocks=blocks,
                splits=splits,
                rows=rows,
                groups=group,
                walk=walk,
                abreast=abreast,
                half=half,
            ),
        )
        for block, blocks, splits in _shares(work)
        for rows in _rows(work)
        if padded_rows(rows) * 128 // splits >= (256 if work.pooled and splits > 1 else 32)
        for group in groups
        for walk, abreast in orders
        if 128 * group * abreast <= MOST_THREADS
        for half in ((True, False) if splits > 1 and dtype == "float16" else (False,))
    ]


def _shares(work: Work) -> list[tuple[int, int, int]]:
    """(block_channels, blocks, splits) that take all channels: blocks of 64, and smaller ones where those leave less
    to fill with zeros. A cluster of which half would do no less is left out."""
    found: dict[tuple[int, int], tuple[int, int, int]] = {}
    for block in (64, 32, 16):
        channels = -(-work.channels // block) * block + -(-work.pair // block) * block
        for splits in SPLITS:
            blocks = -(-channels // (block * splits))
            if splits > 1 and blocks == -(-channels // (block * splits // 2)):
                continue
            if blocks > 1 and block < 32:
                continue  # many small copies, and a third of the tensor cores' reading speed
            found.setdefault((splits, splits * blocks * block), (block, blocks, splits))
    return list(found.values())


def _rows(work: Work) -> list[int]:
    """Heights of a tile, whole windows where they are pooled; of those that need as many tiles, the least."""
    least: dict[int, int] = {}
    most, step = min(work.height, MOST_ROWS), 2 if work.pooled else 1
    for rows in range(most, 0, -step):
        least[-(-work.height // rows)] = rows
    return [rows for rows in least.values() if rows >= min(work.height, LEAST_ROWS)]


def fits(work: Work, configuration: Configuration) -> bool:
    down, ring = grid(work, configuration)[2], configuration.ring
    box = input_tile(work.window, configuration.rows).box
    return (
        shared_bytes(work, configuration) <= SHARED_BYTES
        and barrier_bytes(work.window, configuration) <= 1024
        and max(box) <= 256
        and down <= 65535
        and (ring == 0 or 2 <= ring < configuration.blocks * math.prod(work.window.kernel))
    )
