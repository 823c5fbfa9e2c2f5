"""Layers that treat each element by itself: activations, scales, and one tensor with another."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.writer import Tensor, Weights, Writer, whole
from enginewright_runtime.errors import UsageError

# The operator, and what its alpha and beta are called there.
_ACTIVATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "relu": ("Relu", ()),
        "sigmoid": ("Sigmoid", ()),
        "tanh": ("Tanh", ()),
        "leaky_relu": ("LeakyRelu", ("alpha",)),
        "elu": ("Elu", ("alpha",)),
        "selu": ("Selu", ("alpha", "gamma")),
        "celu": ("Celu", ("alpha",)),
        "softsign": ("Softsign", ()),
        "softplus": ("Softplus", ()),
        "hard_sigmoid": ("HardSigmoid", ("alpha", "beta")),
        "hard_swish": ("HardSwish", ()),
        "thresholded_relu": ("ThresholdedRelu", ("alpha",)),
    }
)
_WRITTEN_OUT = ("clip", "silu", "gelu")
_ELEMENTWISE: Mapping[str, str] = MappingProxyType(
    {
        "sum": "Add",
        "sub": "Sub",
        "prod": "Mul",
        "div": "Div",
        "max": "Max",
        "min": "Min",
        "pow": "Pow",
        "equal": "Equal",
        "greater": "Greater",
        "less": "Less",
        "and": "And",
        "or": "Or",
        "xor": "Xor",
    }
)


class PointwiseLayers(Writer):
    """See the module."""

    @whole
    def add_activation(
        self, x: Tensor, kind: str, alpha: float | None = None, beta: float | None = None, *, name: str = ""
    ) -> Tensor:
        """relu, sigmoid, tanh, leaky_relu, clip (alpha to beta), gelu, silu and others; alpha and beta as ONNX's.

        gelu is x (1 + erf(x / sqrt 2)) / 2, and silu x sigmoid(x).
        """
        layer = self.named(name, kind)
        if kind in _WRITTEN_OUT:
            return self._written_out(x, kind, alpha, beta, layer)
        operator, parameters = sizes.chosen(
            {**_ACTIVATIONS, **dict.fromkeys(_WRITTEN_OUT, ("", ()))}, kind, "An activation"
        )
        given = [value for value in (alpha, beta) if value is not None]
        if len(given) > len(parameters):
            raise UsageError(f"The activation {kind!r} takes {len(parameters)} parameters, got {len(given)}.")
        return self.one(layer, operator, [x], dict(zip(parameters, given, strict=False)))

    @whole
    def add_scale(
        self,
        x: Tensor,
        shift: Weights | None = None,
        scale: Weights | None = None,
        power: Weights | None = None,
        *,
        axis: int = 1,
        name: str = "",
    ) -> Tensor:
        """(x * scale + shift)^power; each a number for all, one for each place of `axis`, or a tensor."""
        layer = self.named(name, "scale")
        steps = [("Mul", scale, "scale"), ("Add", shift, "shift"), ("Pow", power, "power")]
        wanted = [
            (operator, self._per_axis(x, weights, axis, layer, role), role)
            for operator, weights, role in steps
            if weights is not None
        ]
        if not wanted:
            raise UsageError(f"The layer {layer!r} has nothing to do: give a shift, a scale or a power.")
        for operator, weights, role in wanted[:-1]:
            x = self.one(self.part(layer, role), operator, [x, weights])
        operator, weights, _ = wanted[-1]
        return self.one(layer, operator, [x, weights])

    def add_elementwise(self, a: Tensor, b: Tensor, kind: str, *, name: str = "") -> Tensor:
        """sum, sub, prod, div, max, min, pow, equal, greater, less, and, or, xor; sizes of 1 stretch, as in NumPy."""
        operator = sizes.chosen(_ELEMENTWISE, kind, "An elementwise layer")
        return self.one(self.named(name, kind), operator, [a, b])

    def _per_axis(self, x: Tensor, weights: Weights, axis: int, layer: str, role: str) -> Tensor:
        if not isinstance(weights, Tensor) and not np.shape(weights):
            return self.weights(weights, (), x, layer=layer, role=role)
        place = sizes.axis(x, axis, layer)
        trailing = len(sizes.of(x, layer)) - place - 1
        return self.weights(weights, (sizes.fixed(x, place, layer), *[1] * trailing), x, layer=layer, role=role)

    def _written_out(self, x: Tensor, kind: str, alpha: float | None, beta: float | None, layer: str) -> Tensor:
        dtype = self.dtype(x, layer)
        if kind == "clip":
            least, most = (
                None if v is None else self.numbers(np.array(v, dtype), layer, "bound") for v in (alpha, beta)
            )
            return self.one(layer, "Clip", [x, least, most])
        if kind == "silu":
            return self.one(layer, "Mul", [x, self.one(self.part(layer, "sigmoid"), "Sigmoid", [x])])
        root, one, half = (self.numbers(np.array(v, dtype), layer, "number") for v in (np.sqrt(2.0), 1.0, 0.5))
        bend = self.one(self.part(layer, "erf"), "Erf", [self.one(self.part(layer, "div"), "Div", [x, root])])
        product = self.one(
            self.part(layer, "product"), "Mul", [x, self.one(self.part(layer, "sum"), "Add", [bend, one])]
        )
        return self.one(layer, "Mul", [product, half])
