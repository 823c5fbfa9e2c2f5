"""ResNet (He et al. 2015) with bottleneck blocks: ResNet-50 and ResNet-152, which has 670 layers in Caffe's form."""

from networks.weights import Weights, random

from enginewright_builder.network.definition import Network, Tensor

CLASSES = 1000


def resnet50(weights: Weights | None = None, **options) -> Network:
    """Images (batch, 3, size, size) to probabilities; the options of `resnet`."""
    return resnet((3, 4, 6, 3), "ResNet-50", weights or random(), **options)


def resnet152(weights: Weights | None = None, **options) -> Network:
    """As `resnet50`, with 50 blocks for 16."""
    return resnet((3, 8, 36, 3), "ResNet-152", weights or random(), **options)


def resnet(
    blocks: tuple[int, ...],
    name: str,
    weights: Weights,
    *,
    batch: int | str = "batch",
    size: int = 224,
    thin: int = 1,
    caffe: bool = False,
) -> Network:
    """`caffe`: BatchNorm and Scale apart, the stride in the first 1x1, and a projection before its block's layers."""
    network = Network(name)
    pen = _Pen(network, weights, caffe=caffe)
    x = network.add_input("image", (batch, 3, size, size))
    x = network.add_pooling(pen.relu(pen.unit(x, "stem", 64 // thin, 7, 2)), "max", 3, stride=2, padding=1)
    for stage, count in enumerate(blocks):
        width = (64 << stage) // thin
        for block in range(count):
            x = pen.block(
                x, f"stage{stage + 2}.{block}", width, stride=2 if stage and not block else 1, first=not block
            )
    x = network.add_pooling(x, "average")
    outputs = CLASSES // thin
    kernel, bias = weights("classes.kernel", (outputs, x.shape[1])), weights("classes.bias", (outputs,))
    x = network.add_fully_connected(x, outputs, kernel, bias, name="classes")
    network.mark_output(network.add_softmax(x), "probabilities")
    return network


class _Pen:
    """Writes the pieces that repeat."""

    def __init__(self, network: Network, weights: Weights, *, caffe: bool) -> None:
        self.network, self.weights, self.caffe = network, weights, caffe

    def block(self, x: Tensor, name: str, width: int, *, stride: int, first: bool) -> Tensor:
        """1x1, 3x3, 1x1 beside a shortcut, which is a projection in the first block of a stage."""
        shortcut = self.unit(x, f"{name}.shortcut", 4 * width, 1, stride) if first and self.caffe else x
        y = self.relu(self.unit(x, f"{name}.reduce", width, 1, stride if self.caffe else 1))
        y = self.relu(self.unit(y, f"{name}.middle", width, 3, 1 if self.caffe else stride))
        y = self.unit(y, f"{name}.expand", 4 * width, 1)
        if first and not self.caffe:
            shortcut = self.unit(x, f"{name}.shortcut", 4 * width, 1, stride)
        return self.relu(self.network.add_elementwise(y, shortcut, "sum"))

    def unit(self, x: Tensor, name: str, maps: int, window: int, stride: int = 1) -> Tensor:
        """Convolution and BatchNorm; Caffe's BatchNorm only normalizes, and its Scale follows."""
        kernel = self.weights(f"{name}.kernel", (maps, x.shape[1], window, window))
        x = self.network.add_convolution(x, maps, window, kernel, stride=stride, padding=window // 2, name=name)
        scale, bias, mean, variance = (
            self.weights(f"{name}.{role}", (maps,)) for role in ("scale.one", "bias", "mean", "variance.one")
        )
        x = self.network.add_normalization(x, "batch", scale, bias, mean=mean, variance=variance)
        return self.network.add_scale(x, shift=self.weights(f"{name}.shift", (maps,))) if self.caffe else x

    def relu(self, x: Tensor) -> Tensor:
        return self.network.add_activation(x, "relu")
