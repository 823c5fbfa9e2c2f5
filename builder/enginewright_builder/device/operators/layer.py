"""A layer as an operator's lowering sees it: no graph, only what it computes with. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from enginewright_builder.device.expression import Computation

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """An input or output: dtype (NumPy's or ml_dtypes' name), static shape, and the values if they are constant."""

    dtype: str
    shape: tuple[int, ...]
    constant: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One ONNX node. `attributes` are plain values (int, float, str, tuples, arrays); `opset` is its domain's version.

    Loads in a lowering number the operands by `inputs`' positions (None is an absent optional input); what `inputs`
    does not have cannot be loaded.
    """

    operator: str
    opset: int
    attributes: Mapping[str, Any]
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand | None, ...]
    domain: str = ""


class Declined(Exception):
    """A lowering does not take this layer: the argument says why, as the end of a sentence."""


Lowering: TypeAlias = Callable[[Layer], tuple[Computation, ...]]
"""A computation for each output that is present; each loads inputs only. Raises Declined."""
