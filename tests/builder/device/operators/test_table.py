"""The table of lowerings names operators of ONNX, each once."""

import onnx

from enginewright_builder.device.operators.table import OPERATORS
from enginewright_builder.network.network import FUSED_DOMAIN


def test_every_lowering_is_of_an_operator_that_onnx_has():
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    assert {each for each in OPERATORS if each[0] != FUSED_DOMAIN} - known == set()


def test_random_operators_have_no_lowering():
    names = {name for _, name in OPERATORS}
    assert names.isdisjoint({"Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "RandomNormalLike"})
