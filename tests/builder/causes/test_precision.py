"""Which layer a narrow precision breaks is found on the CPU, and what to keep in fp32 is what mends it."""

import numpy as np
import onnx_ir as ir
import pytest

from enginewright_builder import causes, emit, planning
from enginewright_builder.causes import rounding
from enginewright_builder.device import schedule
from enginewright_builder.emit import Blobs
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.plugins import emission
from enginewright_builder.tuning import bounds
from enginewright_builder.tuning.inputs import Proof
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.manifest import Schedule
from enginewright_runtime.plan.recipe import Precision, PrecisionRule, Recipe
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

# The square of 300 is beyond float16's 65504, and well within bfloat16.
OVERFLOWS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[4, 8] x) => (float[4, 8] y)
<float[1] three_hundred = {300.0}, float[1] small = {0.00001}>
{
    warm = Tanh (x)
    large = Mul (warm, three_hundred)
    square = Mul (large, large)
    back = Mul (square, small)
    y = Sigmoid (back)
}
"""
# 4096 + x keeps nothing of an x below 16 in bfloat16's 8 bits.
CANCELS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[4, 8] x) => (float[4, 8] y)
<float[1] far = {4096.0}>
{
    warm = Tanh (x)
    up = Add (warm, far)
    down = Sub (up, far)
    y = Relu (down)
}
"""


def network(text: str) -> Network:
    model = ir.from_onnx_text(text)
    for node in model.graph:
        node.name = node.outputs[0].name
    made = Network(model)
    shapes.infer(made)
    return made


def recipe(precision: Precision, *keep: str) -> Recipe:
    rules = tuple(PrecisionRule(layers=each, precision=Precision.FP32) for each in keep)
    target = TargetRequirement(kind=TargetKind.CUDA)
    return Recipe(model="m", target=target, builder="0", precisions=(precision,), keep=rules)


FEED = {"x": np.random.default_rng(5).standard_normal((4, 8)).astype(np.float32) * 3}


def told(text: str, asked: Recipe, seconds: float = 60.0) -> str:
    made = network(text)
    with planning.reference(made, Blobs()) as right:
        wanted = right(FEED)
    kind = bounds.coarsest(made, asked.arithmetic)
    return causes.find(made, asked, FEED, lambda run: not bounds.disagreement(run(FEED), wanted, kind), seconds=seconds)


def test_a_layer_that_overflows_is_named_with_how_far_and_with_what_to_keep() -> None:
    said = told(OVERFLOWS, recipe(Precision.FP16))
    assert said.startswith("in fp16 the error begins at Mul 'square' (its values reach 9")
    assert "the largest that fits is 65504" in said
    assert said.endswith("precision.keep fp32 for 'square', 'back'")


def test_what_it_says_to_keep_is_enough_and_no_less_is() -> None:
    assert "does not explain it" in told(OVERFLOWS, recipe(Precision.FP16, "square", "back"))
    assert "the error begins at" in told(OVERFLOWS, recipe(Precision.FP16, "square"))


def test_the_same_network_is_right_in_a_type_with_more_range() -> None:
    assert "rounding to bf16 does not explain it" in told(OVERFLOWS, recipe(Precision.BF16))


def test_digits_that_cancel_are_found_where_they_show_and_mended_where_they_are_lost() -> None:
    said = told(CANCELS, recipe(Precision.BF16))
    assert said.startswith("in bf16 the error begins at Sub 'down' (off by ")
    assert "'up'" in said.split("precision.keep")[1]


def test_without_time_the_layer_is_named_and_no_cure() -> None:
    said = told(OVERFLOWS, recipe(Precision.FP16), seconds=0.0)
    assert "'square'" in said
    assert said.endswith("leave fp16 out")


def test_in_the_models_own_precision_no_precision_is_to_blame() -> None:
    assert told(OVERFLOWS, recipe(Precision.FP32)) == "no layer is in a lower precision than the model's own"


def test_a_whole_network_that_does_not_agree_is_refused_with_the_layer_that_loses_it() -> None:
    made, blobs = network(OVERFLOWS), Blobs()
    with planning.reference(made, Blobs()) as right:
        proof = Proof(feeds=(FEED,), expected=(right(FEED),), source="a test")
    narrow = rounding.rounded(made, ir.DataType.FLOAT16, ()).network  # stands for what a GPU makes of it
    built = Schedule(
        inputs=tuple(emit.binding(value) for value in made.inputs),
        outputs=tuple(emit.binding(value) for value in made.outputs),
        segments=(emission.segment(narrow.model, {}, blobs, "narrow.onnx"),),
    )
    with pytest.raises(UnsupportedError, match=r"not in fp16 arithmetic .*begins at Mul 'square'.*keep fp32 for"):
        schedule.require_right(built, made, recipe(Precision.FP16), proof, blobs)
