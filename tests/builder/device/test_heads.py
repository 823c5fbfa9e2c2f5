"""Which products and attentions can be one launch, and what right means for the two."""

import numpy as np
import pytest
from networks.bert import bert
from networks.weights import cheap, random

from enginewright_builder import passes
from enginewright_builder.device import checking, heads, layout, lower
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.problem import Kind
from enginewright_builder.network.definition import Network
from enginewright_runtime.plan.recipe import Precision


def found(network: Network) -> tuple[list[DeviceLayer], list[Couple]]:
    passes.run(network, passes.gpu_pipeline(Precision.FP16, capability=90))
    placed = layout.assign(network)
    layers = lower.lower(network, placed.places, placed.free)
    return layers, heads.find(network, layers, placed.places, lambda _layer: True)


def test_a_product_and_the_attention_of_its_columns_are_a_couple() -> None:
    layers, couples = found(bert(2, cheap(), batch=2, tokens=16, width=128, heads=2, mask=False))
    for couple in couples:
        (first, second), joint = (layers[part] for part in couple.parts), couple.layer
        assert (first.problem.kind, second.problem.kind, joint.problem.kind) == (
            Kind.PRODUCT,
            Kind.ATTENTION,
            Kind.HEADS,
        )
        assert (joint.inputs, joint.outputs) == (first.inputs, second.outputs)
        assert joint.problem.attributes == {"columns": (0, 128, 256), "scale": pytest.approx(0.125)}
    assert len(couples) == 2
    assert couples[0].layer.problem == couples[1].layer.problem


def test_masked_attention_is_in_none() -> None:
    assert found(bert(1, cheap(), batch=2, tokens=16, width=128, heads=2))[1] == []


def test_what_somebody_else_reads_is_in_none() -> None:
    network = Network("queries that are given away")
    x = network.add_input("x", (2, 16, 128))
    wide = [network.add_constant(f"w{n}", cheap()(f"w{n}", (128, 128))) for n in range(3)]
    q, k, v = (network.add_matmul(x, each) for each in wide)
    split = [network.add_shuffle(each, reshape=(2, 16, 2, 64), second_transpose=(0, 2, 1, 3)) for each in (q, k, v)]
    turned = network.add_shuffle(split[1], first_transpose=(0, 1, 3, 2))
    weights = network.add_softmax(network.add_matmul(split[0], turned))
    network.mark_output(network.add_matmul(weights, split[2]))
    assert len(found(network.copy())[1]) == 1
    network.mark_output(network.add_activation(v, "relu"))
    assert found(network)[1] == []


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_the_reference_rounds_what_lies_between_the_two_layers(spread: float) -> None:
    wide = random()
    network = bert(
        1, lambda name, shape: wide(name, shape) * spread, batch=2, tokens=16, width=128, heads=2, mask=False
    )
    _, (couple,) = found(network)
    layer, check = couple.layer, checking.check(couple.layer)
    (x,) = check.feed.values()
    made = x.astype(np.float64) @ layer.constants[1][0].astype(np.float64) + layer.constants[2]
    made = made.astype(np.float16).astype(np.float64)
    q, k, v = (
        made[..., first : first + 128].reshape(2, 16, 2, 64).swapaxes(1, 2)
        for first in layer.problem.attributes["columns"]
    )
    scores = q @ k.swapaxes(2, 3) * layer.problem.attributes["scale"]
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    right = (weight @ v / weight.sum(-1, keepdims=True)).astype(np.float16)
    (name,) = layer.outputs
    wrong, error = check.judge({name: right})
    assert (wrong, error < 0.3) == ("", True)
    assert check.judge({name: right * np.float16(1.01)})[0]
