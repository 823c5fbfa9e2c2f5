"""The Network Definition API: a network written in Python, layer by layer, with the layer names of TensorRT.

    network = Network("digits")
    image = network.add_input("image", ("batch", 1, 8, 8))
    x = network.add_convolution(image, 8, 3, kernel, bias, padding=1)
    x = network.add_activation(x, "relu")
    x = network.add_softmax(network.add_fully_connected(x, 10, weights))
    network.mark_output(x, "probabilities")
    network.save("digits.onnx")

Each method appends ONNX operators, infers their shapes at once, and raises UsageError at the call that is wrong.
"""

from enginewright_builder.network.definition.network import Network
from enginewright_builder.network.definition.recurrent import Recurrent
from enginewright_builder.network.definition.writer import Tensor, Weights

__all__ = ["Network", "Recurrent", "Tensor", "Weights"]
