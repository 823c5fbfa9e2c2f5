"""Which ONNX operators have a lowering: each file's own mapping, joined. Adding one: a line in its file, and a test."""

from collections.abc import Mapping
from types import MappingProxyType

from enginewright_builder.device.operators import (
    casting,
    comparison,
    convolutions,
    grams,
    indexing,
    losses,
    made,
    moves,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    quantization,
    reductions,
    regions,
    resizing,
    sampling,
    scans,
    scattering,
    signals,
    softmax,
)
from enginewright_builder.device.operators.layer import Lowering
from enginewright_builder.network.network import FUSED_DOMAIN, ONNX_DOMAIN

_FILES: tuple[Mapping[str, Lowering], ...] = (
    pointwise.LOWERINGS,  # one formula an element
    comparison.LOWERINGS,  # the same, with bool for an answer
    casting.LOWERINGS,  # to another type
    quantization.LOWERINGS,  # to another type, with a scale
    moves.LOWERINGS,  # elements that only change their places
    padding.LOWERINGS,  # the same, with something around them
    made.LOWERINGS,  # made of indices
    indexing.LOWERINGS,  # read where an input says
    scattering.LOWERINGS,  # written where an input says
    reductions.LOWERINGS,  # folds over dimensions
    scans.LOWERINGS,  # running folds along one, and its greatest elements
    softmax.LOWERINGS,
    norms.LOWERINGS,
    losses.LOWERINGS,
    pooling.LOWERINGS,  # folds over windows
    resizing.LOWERINGS,  # between the elements
    sampling.LOWERINGS,
    regions.LOWERINGS,
    convolutions.LOWERINGS,  # sums over windows
    products.LOWERINGS,  # sums over a dimension that two inputs share
    signals.LOWERINGS,  # windows, Fourier, mel
    grams.LOWERINGS,  # counts of n-grams
)


# Halves of operators that are faster in two kernels.
_OWN: Mapping[str, Lowering] = {**scans.OWN_LOWERINGS, **norms.OWN_LOWERINGS}


def _joined() -> Mapping[tuple[str, str], Lowering]:
    """ONNX's own operators, each from one file, and ours."""
    names = [name for lowerings in _FILES for name in lowerings]
    assert len(names) == len(set(names)), "an operator has two lowerings"
    onnx = {(ONNX_DOMAIN, name): lowering for lowerings in _FILES for name, lowering in lowerings.items()}
    return MappingProxyType(onnx | {(FUSED_DOMAIN, name): lowering for name, lowering in _OWN.items()})


OPERATORS: Mapping[tuple[str, str], Lowering] = _joined()
