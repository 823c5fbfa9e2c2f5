"""DEVICE_TACTICS: every family of kernels for a GPU, each with its reason on its line.

The order is the tie-break. tuning/heats.py says in which order candidates are tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from enginewright_builder.device import plugin_kernels, portable
from enginewright_builder.device.implementation import Candidate, Device, Implementation, Tactic
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.problem import Kind
from enginewright_builder.network.network import Network
from enginewright_builder.tactics.attention import FlashAttention
from enginewright_builder.tactics.cublaslt import CublasLtTactic
from enginewright_builder.tactics.cudnn import CudnnTactic
from enginewright_builder.tactics.hopper_attention import HopperAttention
from enginewright_builder.tactics.hopper_couple import HopperCouple
from enginewright_builder.tactics.hopper_gemm import HopperGemm
from enginewright_builder.tactics.hopper_halo import HopperHaloConvolution
from enginewright_builder.tactics.hopper_heads import HopperHeads
from enginewright_builder.tactics.hopper_latency_conv import HopperLatencyConvolution
from enginewright_builder.tactics.hopper_small_triple import HopperSmallTriple
from enginewright_builder.tactics.hopper_split_gemm import HopperSplitGemm
from enginewright_builder.tactics.hopper_triple import HopperTriple
from enginewright_builder.tactics.hopper_wide_triple import HopperWideTriple
from enginewright_builder.tactics.latency_mean import LatencyMean
from enginewright_builder.tactics.row_product import RowProduct
from enginewright_builder.tactics.stem_conv import StemConvolution
from enginewright_builder.tactics.then_pool import ConvolutionThenPool
from enginewright_builder.tactics.then_tail import ProductThenTail
from enginewright_builder.tactics.triton_product import TritonProduct
from enginewright_builder.tactics.vendor_pair import VendorPair
from enginewright_runtime.plan.recipe import Effort

# Whose code is not ours: a crash or an illegal access of theirs must not be the build's. Run first in a child process.
RISKY: Mapping[str, str] = {
    CudnnTactic.name: "engines of cuDNN have ended processes (int8, channels last, with Relu)",
    VendorPair.name: "the same engines, two in a row",
    plugin_kernels.CUDA: "a kernel by whoever wrote the plugin",
    plugin_kernels.TRITON: "a kernel by whoever wrote the plugin, compiled by Triton",
}
_OURS = (HopperLatencyConvolution(), HopperHaloConvolution(), HopperGemm(), HopperSplitGemm())
_CONVOLUTIONS = (*_OURS, CudnnTactic())
_PRODUCING = (*_OURS, RowProduct(), TritonProduct(), CublasLtTactic(), CudnnTactic())
DEVICE_TACTICS: tuple[Tactic, ...] = (
    HopperLatencyConvolution(),  # small batches: weights before the wait, split over a cluster
    HopperHaloConvolution(),  # 3x3 of few channels at large batches: pixels read once
    HopperGemm(),  # large batches and products: persistent, warp-specialized
    HopperSplitGemm(),  # small products: sums split over a cluster, weights before the wait
    RowProduct(),  # products of one or a few rows: no more than reading the weights
    StemConvolution(),  # pictures as the user gives them, cast and pooled in one launch
    HopperAttention(),  # few keys: warpgroup products, each operand one copy
    FlashAttention(),  # scores never leave the registers, and the launch overlaps its neighbours'
    TritonProduct(),  # products with any epilogue where Hopper's kernels are not
    CublasLtTactic(),  # products on every GPU
    CudnnTactic(),  # convolutions on every GPU
    ConvolutionThenPool(_CONVOLUTIONS, RISKY),  # a pooled convolution where no kernel that does both is the fastest
    ProductThenTail(_PRODUCING, RISKY),  # what no kernel does behind its sums, or does slowly
    VendorPair(),  # both halves of a pair by the vendors' libraries, where no kernel of ours takes it
)
# Instead of those of the same name, where nobody is in a hurry.
_THOROUGH: Mapping[str, Tactic] = {CublasLtTactic.name: CublasLtTactic(every=True)}
# Layers in one launch: whoever else would take them takes them one by one.
_TOGETHER: Mapping[Kind, tuple[Tactic, ...]] = {
    Kind.COUPLE: (HopperCouple(),),
    Kind.TRIPLE: (HopperSmallTriple(), HopperTriple(), HopperWideTriple()),
    Kind.MEAN: (LatencyMean(),),
    Kind.HEADS: (HopperHeads(),),
}
MOST: Mapping[Effort, int] = {Effort.FAST: 4, Effort.BALANCED: 10, Effort.THOROUGH: 200}  # candidates of one tactic
# Of a tactic that builds its candidates one at a time, where another takes the layer too: cuDNN compiles for 0.5 s.
FEWER: Mapping[Effort, int] = {Effort.FAST: 1, Effort.BALANCED: 3, Effort.THOROUGH: 200}
_SERIAL = (CublasLtTactic.name, CudnnTactic.name, VendorPair.name)
# A product as a plain expression reads its operands once for every term: worth its trial only where nothing else runs.
_PRODUCTS = (Kind.CONVOLUTION, Kind.PRODUCT, Kind.ATTENTION)


def candidates(layer: DeviceLayer, device: Device, effort: Effort, only: str = "") -> list[Candidate]:
    """All that is worth trying for a layer, best guesses first; of one tactic where `only` names it."""
    return [
        replace(each, risky=each.risky or each.tactic in RISKY) for each in _candidates(layer, device, effort, only)
    ]


def _candidates(layer: DeviceLayer, device: Device, effort: Effort, only: str) -> list[Candidate]:
    constant = frozenset(layer.constants)
    together = _TOGETHER.get(layer.problem.kind)
    if together is not None:
        offered = [each for tactic in together for each in tactic.candidates(layer.problem, device, constant)]
        return [each for each in offered if only in ("", each.tactic)]
    own = plugin_kernels.plugin_of(layer.network)
    if own is not None:
        return list(plugin_kernels.candidates(layer, own, device))
    found: list[Candidate] = []
    for tactic in DEVICE_TACTICS:
        if only not in ("", tactic.name):
            continue
        most = MOST[effort]
        if found and tactic.name in _SERIAL:
            most = FEWER[effort]
        asked = _THOROUGH.get(tactic.name, tactic) if effort is Effort.THOROUGH else tactic
        found += asked.candidates(layer.problem, device, constant)[:most]
    if only not in ("", portable.NAME):
        return found
    last = bool(found) and layer.problem.kind in _PRODUCTS
    return found + [replace(each, last_resort=last) for each in portable.candidates(layer, device)]


def require_runnable(alone: Network) -> None:
    """Raises Declined where a layer has no portable form: then no tactic may have one either, on some GPU."""
    own = plugin_kernels.plugin_of(alone)
    if own is not None:
        plugin_kernels.require(own)
        return
    (node,) = alone.layers()
    around = {value.name for value in alone.inputs} - {value.name for value in node.inputs if value is not None}
    if around:  # a layer's operands are its own inputs
        raise Declined(f"its bodies read {min(map(str, around))!r} of the network around them")
    portable.require(alone)


def libraries(implementations: Sequence[Implementation], device: Device) -> dict[str, str]:
    """The vendor libraries that these steps call, with the versions that are here."""
    steps = [step for each in implementations for step in each.steps]
    used = {"cudnn": any(s.cudnn for s in steps), "cublaslt": any(s.product for s in steps)}
    return {name: device.libraries.get(name, "") for name, is_used in used.items() if is_used}
