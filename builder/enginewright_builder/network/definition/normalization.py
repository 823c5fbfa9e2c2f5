"""Normalization: batch (with fixed statistics), instance, group, layer and root-mean-square."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from enginewright_builder.network.definition import sizes
from enginewright_builder.network.definition.writer import Tensor, Weights, Writer, whole
from enginewright_runtime.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The arguments of one call."""

    x: Tensor
    scale: Weights | None
    bias: Weights | None
    mean: Weights | None
    variance: Weights | None
    epsilon: float
    groups: int
    layer: str


class NormalizingLayers(Writer):
    """See the module."""

    @whole
    def add_normalization(
        self,
        x: Tensor,
        kind: str,
        scale: Weights | None = None,
        bias: Weights | None = None,
        *,
        mean: Weights | None = None,
        variance: Weights | None = None,
        epsilon: float = 1e-5,
        groups: int = 1,
        name: str = "",
    ) -> Tensor:
        """(x - mean) / sqrt(variance + epsilon) * scale + bias.

        "batch": `mean` and `variance` are given for each channel (axis 1). "instance": of each channel of a sample,
        "group": of each of `groups` groups of channels; scale and bias are a number a channel. "layer": of the last
        axis, and so are scale and bias; "rms": the same without a mean. Ba et al. 2016, Wu and He 2018.
        """
        write: Mapping[str, Callable[[_Wanted], Tensor]] = {
            "batch": self._batch,
            "instance": self._instance,
            "group": self._group,
            "layer": self._last,
            "rms": self._rms,
        }
        make = sizes.chosen(write, kind, "A normalization")
        if kind != "batch" and (mean is not None or variance is not None):
            raise UsageError(f"The normalization {kind!r} computes mean and variance itself: leave them out.")
        layer = self.named(name, f"{kind}_normalization")
        return make(
            _Wanted(x=x, scale=scale, bias=bias, mean=mean, variance=variance, epsilon=epsilon, groups=groups,
                    layer=layer)
        )  # fmt: skip

    def _batch(self, w: _Wanted) -> Tensor:
        if w.mean is None or w.variance is None:
            raise UsageError(f"The layer {w.layer!r} needs the mean and variance of each channel: give both.")
        scale, bias = self._affine(w, sizes.fixed(w.x, 1, w.layer))
        shape = (sizes.fixed(w.x, 1, w.layer),)
        mean = self.weights(w.mean, shape, w.x, layer=w.layer, role="mean")
        variance = self.weights(w.variance, shape, w.x, layer=w.layer, role="variance")
        return self.one(w.layer, "BatchNormalization", [w.x, scale, bias, mean, variance], {"epsilon": w.epsilon})

    def _instance(self, w: _Wanted) -> Tensor:
        sizes.of(w.x, w.layer, least=3)
        scale, bias = self._affine(w, sizes.fixed(w.x, 1, w.layer))
        return self.one(w.layer, "InstanceNormalization", [w.x, scale, bias], {"epsilon": w.epsilon})

    def _group(self, w: _Wanted) -> Tensor:
        """Each group as one channel of an instance normalization, and back; then scale and bias a channel."""
        rank, channels = len(sizes.of(w.x, w.layer, least=3)), sizes.fixed(w.x, 1, w.layer)
        if w.groups < 1 or channels % w.groups:
            raise UsageError(f"The layer {w.layer!r} cannot split {channels} channels into {w.groups} groups.")
        dtype = self.dtype(w.x, w.layer)
        scale, bias = (
            self.weights(given, (channels, *[1] * (rank - 2)), w.x, layer=w.layer, role=role)
            for given, role in (
                (np.ones(channels, dtype) if w.scale is None else w.scale, "scale"),
                (np.zeros(channels, dtype) if w.bias is None else w.bias, "bias"),
            )
        )
        ones, zeros = np.ones(w.groups, dtype), np.zeros(w.groups, dtype)
        rows = self.numbers(np.array([0, w.groups, -1]), w.layer, "groups")
        x = self.one(self.part(w.layer, "grouped"), "Reshape", [w.x, rows])
        x = self.one(
            self.part(w.layer, "normalized"), "InstanceNormalization",
            [x, self.numbers(ones, w.layer, "ones"), self.numbers(zeros, w.layer, "zeros")], {"epsilon": w.epsilon},
        )  # fmt: skip
        shape = self.one(self.part(w.layer, "shape"), "Shape", [w.x])
        x = self.one(self.part(w.layer, "channels"), "Reshape", [x, shape])
        x.shape = w.x.shape  # inference does not see through the shape of a free batch
        x = self.one(self.part(w.layer, "scaled"), "Mul", [x, scale])
        return self.one(w.layer, "Add", [x, bias])

    def _last(self, w: _Wanted) -> Tensor:
        scale, bias = self._affine(w, sizes.fixed(w.x, -1, w.layer))
        return self.one(w.layer, "LayerNormalization", [w.x, scale, bias], {"axis": -1, "epsilon": w.epsilon})

    def _rms(self, w: _Wanted) -> Tensor:
        if w.bias is not None:
            raise UsageError(f"The layer {w.layer!r} has no bias: a root-mean-square normalization only scales.")
        scale, _ = self._affine(w, sizes.fixed(w.x, -1, w.layer))
        epsilon = self.numbers(np.array(w.epsilon, self.dtype(w.x, w.layer)), w.layer, "epsilon")
        square = self.one(self.part(w.layer, "square"), "Mul", [w.x, w.x])
        mean = self.one(self.part(w.layer, "mean"), "ReduceMean", [square], {"axes": [-1]})
        root = self.one(
            self.part(w.layer, "root"), "Sqrt", [self.one(self.part(w.layer, "sum"), "Add", [mean, epsilon])]
        )
        return self.one(w.layer, "Mul", [self.one(self.part(w.layer, "quotient"), "Div", [w.x, root]), scale])

    def _affine(self, w: _Wanted, size: int) -> tuple[Tensor, Tensor]:
        """Scale and bias of one number a channel (or place): 1 and 0 where they are not given."""
        scale = np.ones(size) if w.scale is None else w.scale
        bias = np.zeros(size) if w.bias is None else w.bias
        return (
            self.weights(scale, (size,), w.x, layer=w.layer, role="scale"),
            self.weights(bias, (size,), w.x, layer=w.layer, role="bias"),
        )
