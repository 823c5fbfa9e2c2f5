"""What is wrong raises at the call that made it, says what was got and wanted, and leaves the network as it was."""

import numpy as np
import pytest

from enginewright_builder.network import text
from enginewright_builder.network.definition import Network
from enginewright_runtime.errors import UsageError

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
