"""VGG19 (Simonyan and Zisserman 2014): 16 convolutions, 3 dense layers, 18 ReLU, 5 pools and a softmax: 43 layers."""

from networks.weights import Weights, random

from enginewright_builder.network.definition import Network

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels and convolutions
CLASSES = 1000


def vgg19(weights: Weights | None = None, *, batch: int | str = "batch", size: int = 224, thin: int = 1) -> Network:
    """Images (batch, 3, size, size) to probabilities; `thin` divides every width, for tests."""
    weights = weights or random()
    network = Network("VGG19")
    x = network.add_input("image", (batch, 3, size, size))
    for block, (channels, count) in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            name, maps = f"conv{block}_{number}", channels // thin
            kernel = weights(f"{name}.kernel", (maps, x.shape[1], 3, 3))
            x = network.add_convolution(x, maps, 3, kernel, weights(f"{name}.bias", (maps,)), padding=1, name=name)
            x = network.add_activation(x, "relu", name=f"relu{block}_{number}")
        x = network.add_pooling(x, "max", 2, name=f"pool{block}")
    inputs = x.shape[1] * x.shape[2] * x.shape[3]
    for name, outputs in (("fc6", 4096 // thin), ("fc7", 4096 // thin), ("fc8", CLASSES // thin)):
        kernel = weights(f"{name}.kernel", (outputs, inputs))
        x = network.add_fully_connected(x, outputs, kernel, weights(f"{name}.bias", (outputs,)), name=name)
        if name != "fc8":
            x = network.add_activation(x, "relu", name=f"relu{name[2:]}")
        inputs = outputs
    network.mark_output(network.add_softmax(x), "probabilities")
    return network
