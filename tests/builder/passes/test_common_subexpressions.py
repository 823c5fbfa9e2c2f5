"""Equal layers on equal inputs become one, equal constants too."""

import numpy as np

from enginewright_builder.passes.common_subexpressions import CommonSubexpressions

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '


def test_equal_layers_become_one(network_of, applied, layer_lines):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { a = Relu(x) b = Relu(x) c = Neg(a) d = Neg(b) y = Add(c, d) }"
    )
    report = applied(CommonSubexpressions(), network)
    assert report.details == ("Relu:b: is Relu:a", "Neg:d: is Neg:c")
    assert layer_lines(network)[-1] == "Add:y: y = Add(c, c) : float32[2]"


def test_equal_constants_become_one(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { a = Add(x, k) b = Add(x, l) y = Mul(a, b) }",
        k=np.float32([1, 2]),
        l=np.float32([1, 2]),
    )
    assert applied(CommonSubexpressions(), network).details == ("constant l: is k", "Add:b: is Add:a")


def test_constants_of_another_shape_or_type_are_not_equal(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x, int32[2] i) => (float[2] y, int32[2] j) { y = Add(x, k) j = Add(i, l) }",
        k=np.zeros(1, np.float32),
        l=np.zeros(1, np.int32),
    )
    assert applied(CommonSubexpressions(), network).changed == 0


def test_layers_of_other_attributes_or_order_stay(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x, float[2] z) => (float[2] y) "
        "{ a = LeakyRelu<alpha = 0.1>(x) b = LeakyRelu<alpha = 0.2>(x) c = Sub(a, b) d = Sub(b, a) y = Mul(c, d) }"
    )
    assert applied(CommonSubexpressions(), network).changed == 0


def test_random_layers_are_never_shared(network_of):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b) }"
    )
    assert CommonSubexpressions().apply(network).changed == 0


def test_two_outputs_of_the_network_keep_a_layer_each(network_of, applied):
    network = network_of(HEAD + "(float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Relu(x) }")
    assert applied(CommonSubexpressions(), network).changed == 0


def test_an_output_takes_its_name_along(network_of, applied):
    network = network_of(HEAD + "(float[2] x) => (float[2] y, float[2] z) { a = Relu(x) y = Neg(a) z = Relu(x) }")
    assert applied(CommonSubexpressions(), network).changed == 1
    assert [value.name for value in network.outputs] == ["y", "z"]
