"""Which layers run as the choices stand: alone, or two in one launch."""

from dataclasses import replace

import onnx_ir as ir

from enginewright_builder.device import layout, lower
from enginewright_builder.device.couples import Couple
from enginewright_builder.device.implementation import Candidate, Implementation
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.network import shapes
from enginewright_builder.network.network import Network
from enginewright_builder.tuning.lineup import APART, Lineup
from enginewright_builder.tuning.problems import Problem
from enginewright_builder.tuning.timings import Timed

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
row (float[2, 3] x) => (float[2, 3] y)
{
    a = Relu (x)
    b = Neg (a)
    y = Exp (b)
}
"""


def layers() -> list[DeviceLayer]:
    network = Network(ir.from_onnx_text(MODEL))
    shapes.infer(network)
    for node in network.layers():
        node.name = node.op_type
    placed = layout.assign(network)
    return lower.lower(network, placed.places, placed.free)


def problem(*numbers: int, microseconds: float) -> Problem:
    """Of these layers, with one candidate that takes so long."""
    timed = Timed(tactic="test", name="only", microseconds=microseconds)
    candidate = Candidate(tactic="test", name="only", build=lambda: Implementation(steps=()))
    return Problem(layers=list(numbers), key="", timed=(timed,), offered={("test", "only"): candidate})


def lineup(together: float = 6.0) -> Lineup:
    """Three layers, of which the first two take 5 microseconds, and so many as a couple."""
    own = layers()
    couple = Couple(layer=replace(own[0], name="Relu+Neg"), parts=(0, 1), place=0)
    problems = [problem(0, microseconds=2.0), problem(1, microseconds=3.0), problem(2, microseconds=1.0)]
    joint = problem(3, microseconds=together)
    made = Lineup(layers=[*own, couple.layer], couples=[couple], problems=[*problems, joint])
    made.add_apart()
    return made


def test_a_couple_may_stay_apart_and_then_takes_what_its_layers_take() -> None:
    given = lineup()
    given.add_apart()  # once is enough
    assert [(each.tactic, each.microseconds) for each in given.problems[3].right] == [(APART[0], 5.0), ("test", 6.0)]
    assert [layer.name for layer, _ in given.line()] == ["Relu", "Neg", "Exp"]
    assert [each.layers for each in given.chosen()] == [("Relu",), ("Neg",), ("Exp",)]


def test_a_couple_that_is_chosen_runs_in_the_first_ones_place_and_the_report_names_what_runs() -> None:
    given = lineup()
    given.problems[3].choice = 1
    assert [layer.name for layer, _ in given.line()] == ["Relu+Neg", "Exp"]
    assert [given.matters(each) for each in given.problems] == [False, False, True, True]
    assert [each.layers for each in given.chosen()] == [("Exp",), ("Relu+Neg",)]
    assert given.chosen()[1].rivals[0].tactic == APART[0]


def test_a_couple_that_is_faster_by_itself_is_the_first_choice() -> None:
    assert [layer.name for layer, _ in lineup(together=4.0).line()] == ["Relu+Neg", "Exp"]


def test_only_the_networks_own_layers_must_be_solved() -> None:
    given = lineup()
    assert [each.layers for each in given.alone] == [[0], [1], [2]]
    given.problems[3].timed = ()
    given.add_apart()
    assert given.problems[3].chosen == APART


def test_what_runs_as_part_of_a_couple_is_not_free() -> None:
    given = lineup()
    assert [each.layers for each in given.free] == [[0], [1], [2]]
    given.problems[3].choice = 1
    assert [each.layers for each in given.free] == [[2]]


def with_a_triple(couple_takes: float, triple_takes: float) -> Lineup:
    """Three layers of 2, 3 and 1 microseconds: the last two as a couple, all as a triple in the second one's place."""
    own = layers()
    made = Lineup(
        layers=[*own, replace(own[0], name="Neg+Exp"), replace(own[0], name="Relu+Neg+Exp")],
        couples=[
            Couple(layer=replace(own[0], name="Neg+Exp"), parts=(1, 2), place=1),
            Couple(layer=replace(own[0], name="Relu+Neg+Exp"), parts=(0, 1, 2), place=1),
        ],
        problems=[
            problem(number, microseconds=taken)
            for number, taken in enumerate((2.0, 3.0, 1.0, couple_takes, triple_takes))
        ],
    )
    made.add_apart()
    return made


def test_a_triple_that_is_chosen_takes_its_couples_layers_too() -> None:
    given = with_a_triple(couple_takes=3.0, triple_takes=4.0)
    assert [layer.name for layer, _ in given.line()] == ["Relu+Neg+Exp"]
    assert [given.matters(each) for each in given.problems] == [False, False, False, False, True]
    assert [each.layers for each in given.chosen()] == [("Relu+Neg+Exp",)]


def test_a_triple_competes_with_its_couple_and_the_layer_before() -> None:
    given = with_a_triple(couple_takes=3.0, triple_takes=5.5)
    assert (given.problems[4].right[0].tactic, given.problems[4].right[0].microseconds) == (APART[0], 5.0)
    assert [layer.name for layer, _ in given.line()] == ["Relu", "Neg+Exp"]
    assert [given.matters(each) for each in given.problems] == [True, False, False, True, True]


def test_a_triple_competes_with_all_its_layers_where_the_couple_is_slower() -> None:
    given = with_a_triple(couple_takes=4.5, triple_takes=6.5)
    assert given.problems[4].right[0].microseconds == 6.0
    assert [layer.name for layer, _ in given.line()] == ["Relu", "Neg", "Exp"]
