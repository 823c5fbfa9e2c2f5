"""What nothing reads goes, chains of it at once; what a body reads stays."""

import numpy as np

from enginewright_builder.passes.unread import Unread

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph '
IF = (
    "{} = If(c) <then_branch = t () => (float[2] p) {{ p = Neg(a) }}, "
    "else_branch = e () => (float[2] q) {{ q = Abs(a) }}> "
)


def test_a_chain_that_nothing_reads_goes_with_its_constants(network_of, applied):
    network = network_of(
        HEAD + "(float[2] x) => (float[2] y) { a = Add(x, k) b = Neg(a) y = Relu(x) }", k=np.float32([1, 2])
    )
    assert applied(Unread(), network).details == ("Neg:b: Neg", "Add:a: Add", "1 constants")


def test_what_only_a_body_reads_stays(network_of, applied):
    network = network_of(HEAD + "(float[2] x, bool c) => (float[2] y) { a = Relu(x) " + IF.format("y") + "}")
    assert applied(Unread(), network).changed == 0


def test_what_only_the_body_of_an_unread_layer_reads_goes_too(network_of, applied):
    network = network_of(HEAD + "(float[2] x, bool c) => (float[2] y) { a = Relu(x) " + IF.format("b") + "y = Neg(x) }")
    assert applied(Unread(), network).details == ("If:b: If", "Relu:a: Relu")


def test_an_unread_input_keeps_its_place(network_of, applied):
    network = network_of(HEAD + "(float[2] x, float[2] z) => (float[2] y) { y = Relu(x) }")
    applied(Unread(), network)
    assert [value.name for value in network.inputs] == ["x", "z"]
