"""Networks of TensorRT 3's published table, layer by layer as their first definitions have them, with cheap weights.

`thin` divides every width (and keeps it a multiple of 8), so that a test can run them; 1 is the published network.
Convolutions, BatchNorm, Scale, ReLU, sums, pools, concatenations, products and softmax are a layer each, as in Caffe.
"""

import numpy as np
import onnx_ir as ir

from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network

OPSET = 17


class Grower:
    """Appends layers; each method takes names of values and gives that of its result."""

    def __init__(self, name, picture, *, thin=1):
        self.name, self.thin = name, thin
        self.nodes, self.constants, self.channels = [], [], {}
        self.generator = np.random.default_rng(5)
        self.input = ir.Value(name="image", shape=ir.Shape(picture), type=ir.TensorType(ir.DataType.FLOAT))
        self.inputs = [self.input]
        self.values = {"image": self.input}
        self.channels["image"] = picture[1]

    def width(self, channels):
        return max(8, channels // self.thin // 8 * 8)

    def constant(self, *shape, scale=1.0, shift=0.0, array=None):
        if array is None:
            fan = max(int(np.prod(shape[1:])), 1)
            array = self._numbers(shape)
            array *= scale / np.sqrt(fan)
            array += shift
        tensor = ir.tensor(array, name=f"k{len(self.constants)}")
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype),
                         const_value=tensor)  # fmt: skip
        self.constants.append(value)
        return value

    def _numbers(self, shape):
        if self.thin == 1:  # nobody computes with them, but no two are the same
            zeros = np.zeros(shape, np.float32)
            zeros.flat[0] = len(self.constants)
            return zeros
        return self.generator.standard_normal(shape).astype(np.float32)

    def add(self, operator, inputs, channels=None, name=None, **attributes):
        values = [self.values[each] if isinstance(each, str) else each for each in inputs]
        made = [ir.convenience.convert_attribute(key, value) for key, value in attributes.items()]
        name = name or f"{operator.lower()}{len(self.nodes)}"
        node = ir.Node("", operator, values, made, name=name)
        node.outputs[0].name = name
        self.nodes.append(node)
        self.values[name] = node.outputs[0]
        first = inputs[0] if isinstance(inputs[0], str) else None
        self.channels[name] = channels or self.channels.get(first, 0)
        return name

    def conv(self, x, channels, kernel, stride=1, pad=0, bias=True):
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        pad = (pad, pad) if isinstance(pad, int) else pad
        inputs = [x, self.constant(channels, self.channels[x], *kernel)]
        if bias:
            inputs.append(self.constant(channels, scale=0.1))
        return self.add("Conv", inputs, channels, strides=[stride, stride], pads=[*pad, *pad], kernel_shape=kernel)

    def batch_norm(self, x):
        c = self.channels[x]
        ones = [self.constant(c, scale=0.0, shift=1.0), *(self.constant(c, scale=0.1) for _ in range(2))]
        return self.add("BatchNormalization", [x, *ones, self.constant(c, scale=0.0, shift=1.0)])

    def scale(self, x):
        """Caffe's Scale: a product and a sum. One layer there; here the sum alone, the BatchNorm before it scales."""
        return self.add("Add", [x, self.constant(self.channels[x], 1, 1, scale=0.1)])

    def relu(self, x):
        return self.add("Relu", [x])

    def pool(self, x, kernel, stride, pad=0, kind="MaxPool", **more):
        return self.add(kind, [x], kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[pad] * 4, **more)

    def concat(self, *parts):
        return self.add("Concat", parts, sum(self.channels[part] for part in parts), axis=1)

    def classify(self, x, classes, activation=None):
        flat = self.add("Flatten", [x], axis=1)
        return self.dense(flat, self.channels[x], classes)

    def dense(self, x, inputs, outputs):
        weights = self.constant(outputs, inputs)
        return self.add("Gemm", [x, weights, self.constant(outputs, scale=0.1)], outputs, transB=1)

    def softmax(self, x):
        return self.add("Softmax", [x], axis=-1)

    def done(self, output):
        graph = ir.Graph(self.inputs, [self.values[output]], nodes=self.nodes, initializers=self.constants,
                         opset_imports={"": OPSET}, name=self.name)  # fmt: skip
        network = Network(ir.Model(graph, ir_version=8))
        self.values[output].type = ir.TensorType(ir.DataType.FLOAT)
        shapes.infer(network)
        return network


def vgg19(batch=1, size=224, thin=1):
    """Simonyan and Zisserman 2014, configuration E: 16 convolutions, 3 dense layers, 18 ReLU, 5 pools, softmax: 43."""
    net = Grower("VGG19", (batch, 3, size, size), thin=thin)
    x = "image"
    for channels, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            x = net.relu(net.conv(x, net.width(channels), 3, pad=1))
        x = net.pool(x, 2, 2)
    side = size // 32
    inputs = net.channels[x] * side * side
    x = net.add("Flatten", [x], axis=1)
    for outputs in (net.width(4096), net.width(4096)):
        x = net.relu(net.dense(x, inputs, outputs))
        inputs = outputs
    return net.done(net.softmax(net.dense(x, inputs, 1000 if thin == 1 else 40)))


def resnet(blocks, name, batch=1, size=224, thin=1, caffe=False):
    """He et al. 2015 with bottleneck blocks. `caffe`: BatchNorm and Scale apart, the stride in the first 1x1."""
    net = Grower(name, (batch, 3, size, size), thin=thin)

    def unit(x, channels, kernel, stride=1, pad=0):
        x = net.batch_norm(net.conv(x, channels, kernel, stride, pad, bias=False))
        return net.scale(x) if caffe else x

    x = net.pool(net.relu(unit("image", net.width(64), 7, 2, 3)), 3, 2, 1)
    for stage, count in enumerate(blocks):
        width = net.width(64 << stage)
        for block in range(count):
            stride = 2 if stage and not block else 1
            branch = x if block else None
            if caffe and not block:
                branch = unit(x, 4 * width, 1, stride)
            y = net.relu(unit(x, width, 1, stride if caffe else 1))
            y = net.relu(unit(y, width, 3, 1 if caffe else stride, 1))
            y = unit(y, 4 * width, 1)
            if branch is None:
                branch = unit(x, 4 * width, 1, stride)
            x = net.relu(net.add("Add", [y, branch]))
    pooled = net.add("GlobalAveragePool", [x])
    return net.done(net.softmax(net.classify(pooled, 1000 if thin == 1 else 40)))


def resnet50(**options):
    return resnet((3, 4, 6, 3), "ResNet-50", **options)


def resnet152(**options):
    return resnet((3, 8, 36, 3), "ResNet-152", **options)
