"""The passes in their order, each with its reason, and the one loop that runs them."""

from collections.abc import Iterable, Sequence

import onnx_ir as ir

from enginewright_builder.network.network import Network
from enginewright_builder.passes.affine_into_weights import AffineIntoWeights
from enginewright_builder.passes.base import Pass, PassReport
from enginewright_builder.passes.clusters import Clusters
from enginewright_builder.passes.common_subexpressions import CommonSubexpressions
from enginewright_builder.passes.depths_as_channels import DepthsAsChannels
from enginewright_builder.passes.flatten_pixels import FlattenPixels
from enginewright_builder.passes.fold_constants import FoldConstants
from enginewright_builder.passes.fuse_attention import FuseAttention
from enginewright_builder.passes.fuse_casts import FuseCasts, FuseStem
from enginewright_builder.passes.fuse_epilogues import FuseEpilogues
from enginewright_builder.passes.fuse_gelu import FuseGelu
from enginewright_builder.passes.fuse_norms import FuseNorms
from enginewright_builder.passes.fuse_pools import FusePools
from enginewright_builder.passes.fuse_tails import FuseTails
from enginewright_builder.passes.gather_quantized import GatherQuantized
from enginewright_builder.passes.no_ops import NoOps
from enginewright_builder.passes.one_slope import OneSlope
from enginewright_builder.passes.pad_channels import PadChannels
from enginewright_builder.passes.pair_convolutions import PairConvolutions
from enginewright_builder.passes.precision import NarrowFloats
from enginewright_builder.passes.siblings import WidenSiblings
from enginewright_builder.passes.stem_halves import StemInHalves
from enginewright_builder.passes.unread import Unread
from enginewright_runtime.plan.recipe import Precision, PrecisionRule

PIPELINE: tuple[Pass, ...] = (
    Unread(),  # first: what is not needed need not be computed ahead either
    FoldConstants(),  # constants are what every later pass looks for
    NoOps(),  # before fusions, which look at neighbours
    CommonSubexpressions(),  # after no-ops, which make more layers equal
    GatherQuantized(),  # constants were not computed ahead where they are quantized
    AffineIntoWeights(),  # before the fusion: a batch norm inside of the weights is no epilogue
    OneSlope(),  # before the fusion, which takes no activation of two inputs
    DepthsAsChannels(),  # before the fusion: it writes sums and takes activations along
    FuseEpilogues(),  # after all that removes what stands between a base and its epilogue
    Unread(),  # what the others left behind
)

GPU_PIPELINE: tuple[Pass, ...] = (
    Unread(),  # as on the CPU, up to the epilogues
    FoldConstants(),
    NoOps(),
    CommonSubexpressions(),
    GatherQuantized(),
    AffineIntoWeights(),
    OneSlope(),
    FuseNorms(),  # patterns first, while their parts stand alone
    FuseGelu(),  # before the epilogues, of which it is one
    FuseAttention(),  # before the epilogues: its products have none
    # Here every base takes an epilogue.
    FuseEpilogues(bases=("Conv", "ConvTranspose", "Gemm", "MatMul"), gelu=True, scale=True, last=False),
    FuseTails(),  # after the epilogues: a residual and an activation alone stay what more kernels take
    FlattenPixels(),  # the layout will be channels-last; weights are still wide and whole
    WidenSiblings(),  # after the epilogues: siblings have to be alike to the end
    Unread(),  # what the others left behind
)
_NARROW = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}
_HOPPER = 90


def gpu_pipeline(
    precision: Precision, keep: Sequence[PrecisionRule] = (), *, capability: int = _HOPPER
) -> tuple[Pass, ...]:
    """GPU_PIPELINE with what depends on the arithmetic and on the device's compute capability (90 for 9.0)."""
    passes = list(GPU_PIPELINE)
    narrow = _NARROW.get(precision)
    if narrow is not None:
        wide = tuple(rule.layers for rule in keep if rule.precision in (Precision.FP32, Precision.TF32))
        passes += [
            PadChannels(),  # before the precision: weights are rounded once
            NarrowFloats(dtype=narrow, keep=wide, stems=capability == _HOPPER),  # after the weights are final
            FuseCasts(),  # after the casts are there
        ]
    if narrow is not None and capability == _HOPPER:  # elsewhere nothing is faster than the separate layers
        passes += [
            PairConvolutions(),  # after the precision: only narrow kernels take pairs
            StemInHalves(),  # after the precision, whose rounding of weights sees them once
            FuseStem(),  # takes up the cast of the picture
            FusePools(),  # after the stem, which does any pool
        ]
    passes += [
        Clusters(),  # last: what no better fusion wanted
        Unread(),  # what the others left behind
    ]
    return tuple(passes)


def run(network: Network, pipeline: Iterable[Pass] = PIPELINE) -> tuple[PassReport, ...]:
    """Apply passes in order, in place. Returns what each did."""
    return tuple(each.apply(network) for each in pipeline)
