"""What is wrong raises at the call that made it, says what was got and wanted, and leaves the network as it was."""

import numpy as np
import pytest

from enginewright_builder.network import text
from enginewright_builder.network.definition import Network
from enginewright_runtime.errors import UsageError


def recurrent(network, **more):
    y = network.add_input("y", (5, 2, 3))
    return network.add_rnn(y, "lstm", 4, np.zeros((1, 16, 3)), np.zeros((1, 16, 4)), name="lstm1", **more)


WRONG = {
    "a kernel of another shape": (
        lambda n, x: n.add_convolution(x, 8, 3, np.zeros((8, 5, 3, 3)), name="conv1"),
        "The kernel of the layer 'conv1' must be [8, 4, 3, 3] for its input 'x' float32[batch,4,6,6], "
        "got [8, 5, 3, 3].",
    ),
    "a kernel tensor of another shape": (
        lambda n, x: n.add_convolution(x, 8, 3, n.add_constant("k", np.zeros((8, 5, 3, 3), np.float32)), name="conv1"),
        "The kernel of the layer 'conv1' must be [8, 4, 3, 3] for its input 'x' float32[batch,4,6,6], "
        "got [8, 5, 3, 3].",
    ),
    "a bias of another size": (
        lambda n, x: n.add_convolution(x, 8, 3, np.zeros((8, 4, 3, 3)), [1, 2], name="conv1"),
        "The bias of the layer 'conv1' must be [8] for its input 'x' float32[batch,4,6,6], got [2].",
    ),
    "a window that is too large": (
        lambda n, x: n.add_pooling(x, "max", 7, name="pool1"),
        "'pool1' has a window of 7 over dimension 2 of 'x' float32[batch,4,6,6], which has 6 with its padding.",
    ),
    "groups that divide nothing": (
        lambda n, x: n.add_convolution(x, 8, 3, np.zeros(1), groups=3),
        "cannot make 8 maps of 4 channels in 3 groups: groups must divide both.",
    ),
    "an activation that there is not": (
        lambda n, x: n.add_activation(x, "rleu"),
        "An activation must be one of relu, sigmoid,",
    ),
    "tensors that do not meet": (
        lambda n, x: n.add_elementwise(x, n.add_constant("k", np.zeros(5, np.float32)), "sum", name="sum1"),
        "The layer 'sum1' cannot be added: Add of 'x' float32[batch,4,6,6] and 'k' float32[5]: "
        "Incompatible dimensions.",
    ),
    "matrices that do not meet": (
        lambda n, x: n.add_matmul(x, n.add_constant("k", np.zeros((5, 2), np.float32)), name="product"),
        "MatMul of 'x' float32[batch,4,6,6] and 'k' float32[5,2]: Incompatible dimensions for matrix multiplication.",
    ),
    "types that do not meet": (
        lambda n, x: n.add_elementwise(x, n.add_constant("k", np.zeros(6, np.int64)), "sum"),
        "Add of 'x' float32[batch,4,6,6] and 'k' int64[6]",
    ),
    "an axis that there is not": (
        lambda n, x: n.add_softmax(x, 4, name="softmax1"),
        "The layer 'softmax1' has no axis 4 in 'x' float32[batch,4,6,6].",
    ),
    "too few elements": (
        lambda n, x: n.add_shuffle(n.add_input("y", (2, 6)), reshape=(5, 2), name="shuffle1"),
        "The layer 'shuffle1' cannot reshape 'y' float32[2,6] to [5, 2]: 12 elements would be 10.",
    ),
    "a free size that weights depend on": (
        lambda n, x: n.add_fully_connected(n.add_input("y", (1, "width")), 2, np.zeros(1), name="fc"),
        "The layer 'fc' must know dimension 1 of 'y' float32[1,width]: fix it in add_input.",
    ),
    "more than there are": (
        lambda n, x: n.add_topk(x, 7, name="best"),
        "The layer 'best' cannot take 7 of 6: 'x' is float32[batch,4,6,6].",
    ),
    "a recurrent kernel of other gates": (
        lambda n, x: n.add_rnn(n.add_input("y", (5, 1, 3)), "gru", 4, np.zeros((1, 16, 3)), np.zeros((1, 12, 4))),
        "must be [1, 12, 3] for its input 'y' float32[5,1,3], got [1, 16, 3].",
    ),
    "a rank that does not fit": (
        lambda n, x: n.add_attention(x, x, n.add_input("y", (2, 3))),
        "takes 4 dimensions, and 'y' is float32[2,3].",
    ),
    "an array for a tensor": (
        lambda n, x: n.add_matmul(x, np.zeros(3)),
        "takes tensors of this network, got ndarray: see add_constant.",
    ),
    "a tensor of another network": (
        lambda n, x: n.add_activation(Network().add_input("z", (1,)), "relu"),
        "and 'z' is of another one.",
    ),
    "a name that is taken": (
        lambda n, x: n.add_activation(x, "relu", name="x"),
        "The name 'x' is taken in the network 'network': give another one.",
    ),
    "an operator that there is not": (
        lambda n, x: n.add_operator("Convolve", [x]),
        "ONNX has no operator 'Convolve' in opset 17",
    ),
    "an output that nothing computes": (lambda n, x: n.mark_output(x), "is made by no layer"),
    "an input of no size": (lambda n, x: n.add_input("y", (0, 3)), "a size is 1 or more, or a word if free."),
    "a dtype that there is not": (lambda n, x: n.add_input("y", (1,), "float"), "The input 'y' cannot be 'float'"),
    "batch statistics that are missing": (
        lambda n, x: n.add_normalization(x, "batch"),
        "needs the mean and variance of each channel: give both.",
    ),
    "a deconvolution's kernel of another shape": (
        lambda n, x: n.add_deconvolution(x, 8, 3, np.zeros((5, 8, 3, 3)), name="up1"),
        "The kernel of the layer 'up1' must be [4, 8, 3, 3] for its input 'x' float32[batch,4,6,6], got [5, 8, 3, 3].",
    ),
    "a dense kernel of another width": (
        lambda n, x: n.add_fully_connected(n.add_input("y", (1, 7)), 2, np.zeros((2, 6)), name="fc1"),
        "The kernel of the layer 'fc1' must be [2, 7] for its input 'y' float32[1,7], got [2, 6].",
    ),
    "padding that leaves a window empty": (
        lambda n, x: n.add_pooling(x, "max", 2, padding=2, name="pool1"),
        "The layer 'pool1' pads its window of [2, 2] by 2: a window would be empty.",
    ),
    "an even window of channels": (
        lambda n, x: n.add_lrn(x, 4, name="lrn1"),
        "The layer 'lrn1' takes an odd window of channels, got 4.",
    ),
    "a scale of other channels": (
        lambda n, x: n.add_scale(x, scale=np.zeros(5), name="scale1"),
        "The scale of the layer 'scale1' must be [4, 1, 1] for its input 'x' float32[batch,4,6,6], got [5].",
    ),
    "parts that differ beside the axis": (
        lambda n, x: n.add_concatenation([x, n.add_constant("k", np.zeros((1, 4, 5, 5), np.float32))], name="cat1"),
        "The layer 'cat1' cannot be added: Concat of 'x' float32[batch,4,6,6] and 'k' float32[1,4,5,5]",
    ),
    "a sum over an axis that there is not": (
        lambda n, x: n.add_reduce(x, "sum", [4], name="sum1"),
        "The layer 'sum1' has no axis 4 in 'x' float32[batch,4,6,6].",
    ),
    "places that are no whole numbers": (
        lambda n, x: n.add_gather(x, n.add_constant("k", np.zeros(3, np.float32)), name="gather1"),
        "The layer 'gather1' cannot be added: Gather of 'x' float32[batch,4,6,6] and 'k' float32[3]",
    ),
    "places that there are not": (
        lambda n, x: n.add_gather(x, n.add_constant("k", np.array([0, 4])), 1, name="gather1"),
        "The layer 'gather1' gathers from 0 to 4, and dimension 1 of 'x' float32[batch,4,6,6] has 4.",
    ),
    "a shape of other dimensions": (
        lambda n, x: n.add_resize(x, shape=(1, 4, 12), name="large"),
        "The layer 'large' takes a shape or scales, 4 positive numbers, got (1, 4, 12).",
    ),
    "a normalization of other channels": (
        lambda n, x: n.add_normalization(x, "instance", np.zeros(5), np.zeros(4), name="norm1"),
        "The scale of the layer 'norm1' must be [4] for its input 'x' float32[batch,4,6,6], got [5].",
    ),
    "a state of another size": (
        lambda n, x: recurrent(n, state=n.add_constant("s", np.zeros((1, 2, 5), np.float32))),
        "The state of the layer 'lstm1' must be [1, 2, 4], and 's' is float32[1,2,5].",
    ),
    "a cell of another batch": (
        lambda n, x: recurrent(n, cell=n.add_constant("s", np.zeros((1, 3, 4), np.float32))),
        "The cell of the layer 'lstm1' must be [1, 2, 4], and 's' is float32[1,3,4].",
    ),
    "lengths of another batch": (
        lambda n, x: recurrent(n, lengths=n.add_constant("s", np.zeros(3, np.int32))),
        "The lengths of the layer 'lstm1' must be [2], and 's' is int32[3].",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_call_says_what_is_wrong(what):
    network = Network()
    x = network.add_input("x", ("batch", 4, 6, 6))
    call, sentence = WRONG[what]
    with pytest.raises(UsageError) as caught:
        call(network, x)
    assert sentence in caught.value.message


def test_a_call_that_raised_can_be_made_again():
    network = Network()
    x = network.add_input("x", ("batch", 4, 6, 6))
    before = text.to_text(network)
    with pytest.raises(UsageError):
        network.add_convolution(x, 8, 9, np.zeros((8, 4, 9, 9)), np.zeros(8), name="conv1")
    assert text.to_text(network) == before
    assert network.add_convolution(x, 8, 3, np.zeros((8, 4, 3, 3)), np.zeros(8), name="conv1").name == "conv1"
    assert list(network.graph.initializers) == ["conv1.kernel", "conv1.bias"]


def test_of_several_operators_none_stays_where_a_later_one_is_wrong():
    network = Network()
    q, v = network.add_input("q", (1, 2, 3, 4)), network.add_input("v", (1, 5, 3, 4))
    before = text.to_text(network)
    with pytest.raises(UsageError, match=r"The layer .attention. cannot be added: MatMul of"):
        network.add_attention(q, q, v, name="attention")
    assert text.to_text(network) == before
    assert network.add_attention(q, q, q, name="attention").name == "attention"


def test_a_network_without_outputs_is_not_saved(tmp_path):
    with pytest.raises(UsageError, match="has no output: call mark_output"):
        Network("empty").save(tmp_path / "empty.onnx")
