"""The max pool that our convolutions do before they store: 2x2, stride 2, no padding. Pure.

Its windows never overlap, so each lies in one tile, and a tile stores a quarter of its results. What a pool leaves out
at the right and the bottom of an odd picture is not computed.
"""

import math
from dataclasses import dataclass

from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType

SIDE = 2
ROWS = 64  # of a warpgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Rows of a warpgroup as a patch of pixels, x fastest, of one picture or several, so that windows lie whole in it;
    `y` is the pooled output."""

    width: int
    height: int
    images: int
    y: TensorType

    @property
    def counts(self) -> tuple[int, int, int]:
        """Patches of images, down and across."""
        images, _, high, wide = self.y.shape
        return -(-images // self.images), -(-high * SIDE // self.height), -(-wide * SIDE // self.width)


def side(problem: Problem) -> int:
    """2 where a problem's max pool is this one and nothing else stands between, 1 where it has none, 0 where it has
    another, or a residual or a pair."""
    pool = problem.attributes.get("pool")
    if pool is None:
        return 1
    plain = tuple(pool["kernel"]) == tuple(pool["strides"]) == (SIDE, SIDE) and not any(pool["pads"])
    alone = all(each is None for each in problem.inputs[3:])
    return SIDE if plain and alone and len(problem.outputs[0].shape) == 4 else 0


def patches(y: TensorType) -> Patches:
    """Those that leave the fewest rows empty, wide ones first. Of VGG19 at 224, from 16 pictures on, none is empty."""
    sizes = [(wide, ROWS // wide // images, images) for wide in (8, 4, 2) for images in (1, 2, 4, 8, 16)]
    made = [Patches(width=w, height=h, images=n, y=y) for w, h, n in sizes if h >= SIDE and h % SIDE == 0]
    return min(made, key=lambda each: math.prod(each.counts))
