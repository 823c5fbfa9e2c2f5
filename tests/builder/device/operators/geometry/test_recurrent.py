"""Recurrent layers and loops as steps, against ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from enginewright_builder.device import reference, stages
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.passes.both_branches import BothBranches
from enginewright_builder.passes.expand_recurrent import ExpandRecurrent
from enginewright_builder.passes.unroll_loops import UnrollLoops

Agrees = Callable[..., None]
_random = np.random.default_rng(9)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
LENGTH, BATCH, FEATURES, HIDDEN = 4, 3, 5, 6


def numbers(*shape: int) -> Any:
    return (_random.standard_normal(shape) * 0.6).astype(np.float32)


def given(operator: str, directions: int = 1, *, lengths: bool = False, peepholes: bool = False) -> list[Any]:
    """All the inputs of a layer, states included."""
    wide = GATES[operator] * HIDDEN
    made = [numbers(LENGTH, BATCH, FEATURES), numbers(directions, wide, FEATURES), numbers(directions, wide, HIDDEN),
            numbers(directions, 2 * wide), np.array([4, 1, 3], np.int32) if lengths else None,
            numbers(directions, BATCH, HIDDEN)]  # fmt: skip
    if operator == "LSTM":
        made.append(numbers(directions, BATCH, HIDDEN))
        made += [numbers(directions, 3 * HIDDEN)] if peepholes else []
    return made


def outputs(operator: str) -> int:
    return 3 if operator == "LSTM" else 2


@pytest.mark.parametrize("operator", list(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_steps_agree_in_both_directions_with_and_without_lengths(
    agrees: Agrees, operator: str, direction: str, lengths: bool
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    agrees(
        operator, given(operator, directions, lengths=lengths), settled=[1, 2, 3], outputs=outputs(operator), opset=14,
        hidden_size=HIDDEN, direction=direction,
    )  # fmt: skip


def test_a_layer_without_biases_and_states_begins_at_zero(agrees: Agrees) -> None:
    agrees("LSTM", given("LSTM")[:3], settled=[1, 2], outputs=3, opset=14, hidden_size=HIDDEN)


def test_peepholes_show_the_gates_the_memory(agrees: Agrees) -> None:
    agrees(
        "LSTM", given("LSTM", peepholes=True), settled=[1, 2, 3, 7], outputs=3, opset=14, hidden_size=HIDDEN, clip=0.4
    )


@pytest.mark.parametrize("after", [0, 1])
def test_a_gru_resets_before_or_after_the_product(agrees: Agrees, after: int) -> None:
    agrees("GRU", given("GRU"), settled=[1, 2, 3], outputs=2, opset=14, hidden_size=HIDDEN, linear_before_reset=after)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Relu", {}), ("Softsign", {}), ("Softplus", {}), ("LeakyRelu", {"activation_alpha": [0.3]}),
        ("ThresholdedRelu", {"activation_alpha": [0.2]}), ("Elu", {"activation_alpha": [0.7]}),
        ("HardSigmoid", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("Affine", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
        ("ScaledTanh", {"activation_alpha": [0.3], "activation_beta": [0.4]}),
    ],
)  # fmt: skip
def test_every_activation_takes_its_parameters(agrees: Agrees, name: str, parameters: dict[str, Any]) -> None:
    agrees(
        "RNN", given("RNN"), settled=[1, 2, 3], outputs=2, opset=14, hidden_size=HIDDEN, activations=[name],
        **parameters,
    )  # fmt: skip


def test_batch_first_is_the_same_with_dimensions_exchanged(network_of_one: Callable[..., Any]) -> None:
    inputs = given("GRU")
    wanted = _outputs_of(network_of_one, "GRU", inputs, layout=0)
    exchanged = [inputs[0].swapaxes(0, 1), *inputs[1:5], inputs[5].swapaxes(0, 1)]
    made = _outputs_of(network_of_one, "GRU", exchanged, layout=1)
    np.testing.assert_allclose(made[0].transpose(1, 2, 0, 3), wanted[0], rtol=1e-6)
    np.testing.assert_allclose(made[1].swapaxes(0, 1), wanted[1], rtol=1e-6)


def _outputs_of(network_of_one: Callable[..., Any], operator: str, inputs: list[Any], **attributes: Any) -> list[Any]:
    network, _, fed = network_of_one(operator, inputs, outputs=2, opset=14, hidden_size=HIDDEN, **attributes)
    staged = stages.staged(network)
    values: dict[str, Any] = {**staged.constants, **fed}
    for stage in staged.stages:
        operands = [None if held is None else values[held.name] for held in stage.inputs]
        values[stage.output.name] = reference.evaluate(stage.computation, operands)
    return [values[value.name] for value in network.outputs]


def test_a_sequence_that_is_too_long_stays_and_the_report_says_so(network_of_one: Callable[..., Any]) -> None:
    network, _, _ = network_of_one("RNN", given("RNN"), outputs=2, opset=14, hidden_size=HIDDEN)
    report = ExpandRecurrent(most_steps=3).apply(network)
    assert (report.changed, len(network.graph)) == (0, 1)
    assert report.declined == ("layer: RNN is not expanded: its sequence has 4 steps where 3 are the most",)


def test_an_unknown_activation_is_declined_by_name(network_of_one: Callable[..., Any]) -> None:
    network, _, _ = network_of_one("RNN", given("RNN"), outputs=2, opset=14, hidden_size=HIDDEN, activations=["Cube"])
    with pytest.raises(Declined, match="RNN has no kernel"):
        stages.staged(network)
    assert "its activation is cube" in ExpandRecurrent().apply(network).declined[0]


def _body(text: str) -> onnx.GraphProto:
    return onnx.parser.parse_graph(text)


def test_a_scan_is_written_out_in_both_directions(agrees: Agrees) -> None:
    body = _body("""running (float[3] state, float[3] x) => (float[3] sum, float[3] shown)
        { sum = Add(state, x)  shown = Mul(sum, x) }""")
    agrees(
        "Scan", [numbers(3), numbers(3, 5)], outputs=2, body=body, num_scan_inputs=1, scan_input_axes=[1],
        scan_input_directions=[1], scan_output_axes=[-1], scan_output_directions=[1],
    )  # fmt: skip


def test_a_loop_with_a_known_count_is_written_out(agrees: Agrees) -> None:
    body = _body("""running (int64 number, bool more, float[3] state) => (bool go, float[3] next, float[3] shown)
        { go = Identity(more)  f = Cast<to = 1>(number)  next = Add(state, f)  shown = Neg(next) }""")
    count = np.array(4, np.int64)
    agrees("Loop", [count, None, numbers(3)], settled=[0], outputs=2, body=body)


def test_a_loop_that_grows_its_state_has_static_shapes_when_written_out(agrees: Agrees) -> None:
    body = _body("""running (int64 number, bool more, float[n] state) => (bool more, float[m] next)
        { next = Concat<axis = 0>(state, state) }""")
    agrees("Loop", [np.array(3, np.int64), None, numbers(2)], settled=[0], outputs=1, body=body)


def test_a_loop_whose_body_decides_is_left_alone(network_of_one: Callable[..., Any]) -> None:
    body = _body("""running (int64 number, bool more, float[1] state) => (bool go, float[1] next)
        { next = Add(state, state)  go = Less(next, state) }""")
    network, _, _ = network_of_one("Loop", [np.array(3, np.int64), None, numbers(1)], settled=[0], body=body)
    report = UnrollLoops().apply(network)
    assert report.declined == ("layer: Loop is not unrolled: its body computes whether to go on",)


@pytest.mark.parametrize("condition", [True, False])
def test_an_if_computes_both_branches_and_chooses(agrees: Agrees, condition: bool) -> None:
    then = _body("then () => (float[3] made) { made = Constant<value = float[3] {1.0, 2.0, 3.0}>() }")
    other = _body("""other () => (float[3] made)
        { two = Constant<value = float {2.0}>() one = Constant<value = float[3] {1.0, 5.0, 0.0}>()
          made = Mul(one, two) }""")
    agrees("If", [np.array(condition)], then_branch=then, else_branch=other)


def test_an_if_whose_branches_differ_in_shape_is_left_alone(network_of_one: Callable[..., Any]) -> None:
    then = _body("then () => (float[1] made) { made = Constant<value = float[1] {1.0}>() }")
    other = _body("other () => (float[2] made) { made = Constant<value = float[2] {1.0, 2.0}>() }")
    network, _, _ = network_of_one("If", [np.array(True)], then_branch=then, else_branch=other)
    assert "are not known to be tensors of one shape" in BothBranches().apply(network).declined[0]


def test_a_scan_of_old_has_a_batch_of_sequences(agrees: Agrees) -> None:
    body = _body("""running (float[3] state, float[3] x) => (float[3] sum, float[3] shown)
        { sum = Add(state, x)  shown = Mul(sum, x) }""")
    given = [None, numbers(2, 3), numbers(2, 4, 3)]
    agrees("Scan", given, outputs=2, opset=8, body=body, num_scan_inputs=1, directions=[1])
