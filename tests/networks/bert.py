"""BERT (Devlin et al. 2018) as PyTorch wrote it out before opset 17: its encoder blocks on embedded tokens."""

import numpy as np
import onnx_ir as ir
from networks.published import Grower


class Writer(Grower):
    """The written-out forms of what became operators later."""

    def number(self, value):
        return self.constant(array=np.array(value, np.float32))

    def vector(self, size, **options):
        return self.constant(size, **options)

    def linear(self, x, inputs, outputs):
        product = self.add("MatMul", [x, self.constant(inputs, outputs, scale=0.5)])
        return self.add("Add", [self.vector(outputs, scale=0.1), product])

    def layer_norm(self, x, width):
        center = self.add("Sub", [x, self.add("ReduceMean", [x], axes=[-1])])
        square = self.add("Pow", [center, self.number(2.0)])
        variance = self.add("ReduceMean", [square], axes=[-1])
        root = self.add("Sqrt", [self.add("Add", [variance, self.number(1e-12)])])
        scaled = self.add("Mul", [self.add("Div", [center, root]), self.vector(width, scale=0.1, shift=1.0)])
        return self.add("Add", [scaled, self.vector(width, scale=0.1)])

    def gelu(self, x):
        erf = self.add("Erf", [self.add("Div", [x, self.number(np.sqrt(2.0))])])
        product = self.add("Mul", [x, self.add("Add", [erf, self.number(1.0)])])
        return self.add("Mul", [product, self.number(0.5)])

    def reshape(self, x, *shape):
        return self.add("Reshape", [x, self.constant(array=np.array(shape, np.int64))])


def bert(blocks=1, batch=1, tokens=128, width=768, heads=12, mask=True, thin=1):
    """`blocks` encoder blocks: (batch, tokens, width) and an additive mask (batch, 1, 1, tokens) to the same."""
    net = Writer("BERT", (batch, tokens, width), thin=thin)
    if mask:
        value = ir.Value(name="mask", shape=ir.Shape([batch, 1, 1, tokens]), type=ir.TensorType(ir.DataType.FLOAT))
        net.values["mask"] = value
        net.inputs.append(value)
    x, size = "image", width // heads

    def split_heads(x, order):
        return net.add("Transpose", [net.reshape(x, batch, tokens, heads, size)], perm=order)

    for _ in range(blocks):
        q, k, v = (net.linear(x, width, width) for _ in range(3))
        scores = net.add("MatMul", [split_heads(q, [0, 2, 1, 3]), split_heads(k, [0, 2, 3, 1])])
        scores = net.add("Div", [scores, net.number(np.sqrt(size))])
        if mask:
            scores = net.add("Add", [scores, "mask"])
        context = net.add("MatMul", [net.softmax(scores), split_heads(v, [0, 2, 1, 3])])
        context = net.reshape(net.add("Transpose", [context], perm=[0, 2, 1, 3]), batch, tokens, width)
        x = net.layer_norm(net.add("Add", [net.linear(context, width, width), x]), width)
        inner = net.gelu(net.linear(x, width, 4 * width))
        x = net.layer_norm(net.add("Add", [net.linear(inner, 4 * width, width), x]), width)
    return net.done(x)
