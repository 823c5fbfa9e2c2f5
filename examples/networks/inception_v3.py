"""Inception V3 (Szegedy et al. 2015), layer by layer: 94 convolutions, each with its BatchNorm and ReLU, 14 pools, 11
concatenations, a dense layer and softmax: 309 layers."""

from networks.weights import Weights, random

from enginewright_builder.network.definition import Network, Tensor

CLASSES = 1000


def inception_v3(
    weights: Weights | None = None, *, batch: int | str = "batch", size: int = 299, thin: int = 1
) -> Network:
    """Images (batch, 3, size, size) to probabilities; `thin` divides every width, for tests."""
    network = Network("Inception V3")
    weights = weights or random()
    pen = _Pen(network, weights, thin)
    unit, join = pen.unit, network.add_concatenation
    x = unit(network.add_input("image", (batch, 3, size, size)), 32, 3, stride=2)
    x = unit(unit(x, 32, 3), 64, 3, padding=1)
    x = network.add_pooling(x, "max", 3, stride=2)
    x = network.add_pooling(unit(unit(x, 80, 1), 192, 3), "max", 3, stride=2)
    for pooled in (32, 64, 64):
        x = pen.module_a(x, pooled)
    narrow = unit(unit(unit(x, 64, 1), 96, 3, padding=1), 96, 3, stride=2)
    x = join([unit(x, 384, 3, stride=2), narrow, network.add_pooling(x, "max", 3, stride=2)])
    for inner in (128, 160, 160, 192):
        x = pen.module_c(x, inner)
    seven = unit(unit(unit(x, 192, 1), 192, (1, 7), padding=(0, 3)), 192, (7, 1), padding=(3, 0))
    seven = unit(seven, 192, 3, stride=2)
    three = unit(unit(x, 192, 1), 320, 3, stride=2)
    x = join([three, seven, network.add_pooling(x, "max", 3, stride=2)])
    for _ in range(2):
        x = pen.module_e(x)
    x = network.add_pooling(x, "average")
    outputs = CLASSES // thin
    kernel, bias = weights("classes.kernel", (outputs, x.shape[1])), weights("classes.bias", (outputs,))
    network.mark_output(network.add_softmax(network.add_fully_connected(x, outputs, kernel, bias)), "probabilities")
    return network


class _Pen:
    """Writes the pieces that repeat; units are numbered for the names of their weights."""

    def __init__(self, network: Network, weights: Weights, thin: int) -> None:
        self.network, self.weights, self.thin, self.units = network, weights, thin, 0

    def unit(
        self,
        x: Tensor,
        maps: int,
        window: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> Tensor:
        """Convolution, BatchNorm, ReLU."""
        self.units += 1
        name, maps = f"unit{self.units}", max(8, maps // self.thin // 8 * 8)
        height, width = (window, window) if isinstance(window, int) else window
        kernel = self.weights(f"{name}.kernel", (maps, x.shape[1], height, width))
        x = self.network.add_convolution(x, maps, window, kernel, stride=stride, padding=padding, name=name)
        scale, bias, mean, variance = (
            self.weights(f"{name}.{role}", (maps,)) for role in ("scale.one", "bias", "mean", "variance.one")
        )
        x = self.network.add_normalization(x, "batch", scale, bias, mean=mean, variance=variance)
        return self.network.add_activation(x, "relu")

    def average(self, x: Tensor) -> Tensor:
        return self.network.add_pooling(x, "average", 3, stride=1, padding=1, count_padding=True)

    def module_a(self, x: Tensor, pooled: int) -> Tensor:
        """1x1, 5x5, two 3x3, and a pool, side by side."""
        one = self.unit(x, 64, 1)
        five = self.unit(self.unit(x, 48, 1), 64, 5, padding=2)
        three = self.unit(self.unit(self.unit(x, 64, 1), 96, 3, padding=1), 96, 3, padding=1)
        return self.network.add_concatenation([one, five, three, self.unit(self.average(x), pooled, 1)])

    def module_c(self, x: Tensor, inner: int) -> Tensor:
        """1x1, a 7x7 as 1x7 and 7x1, two of them, and a pool."""
        one = self.unit(x, 192, 1)
        seven = self.unit(self.unit(x, inner, 1), inner, (1, 7), padding=(0, 3))
        seven = self.unit(seven, 192, (7, 1), padding=(3, 0))
        y = self.unit(x, inner, 1)
        for maps, window, padding in (
            (inner, (7, 1), (3, 0)),
            (inner, (1, 7), (0, 3)),
            (inner, (7, 1), (3, 0)),
            (192, (1, 7), (0, 3)),
        ):
            y = self.unit(y, maps, window, padding=padding)
        return self.network.add_concatenation([one, seven, y, self.unit(self.average(x), 192, 1)])

    def module_e(self, x: Tensor) -> Tensor:
        """1x1, a 3x3 and two, whose last ones are 1x3 and 3x1 side by side, and a pool."""
        one = self.unit(x, 320, 1)
        three = self.unit(x, 384, 1)
        double = self.unit(self.unit(x, 448, 1), 384, 3, padding=1)
        wide = [
            self.unit(y, 384, window, padding=padding)
            for y in (three, double)
            for window, padding in (((1, 3), (0, 1)), ((3, 1), (1, 0)))
        ]
        return self.network.add_concatenation([one, *wide, self.unit(self.average(x), 192, 1)])
