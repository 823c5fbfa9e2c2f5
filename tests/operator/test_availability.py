"""GPUAvailable tells of nodes alone, whatever else is the matter."""

import datetime

from operator_objects import gpu_class

from enginewright_operator import availability, gpu
from enginewright_operator.conditions import Reason, State

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
H200 = gpu_class("h200", kind="cuda", product="H200")
L4 = gpu_class("l4", kind="cuda", product="L4")


def node(product: str) -> gpu.Node:
    return gpu.Node(name=product, labels={gpu.PRODUCT_LABEL: product}, allocatable={"nvidia.com/gpu": "1"})


NODES = (node("NVIDIA-H200"), node("NVIDIA-L40S"))


def test_a_gpu_that_no_node_has_is_not_available_and_the_products_that_there_are_are_named() -> None:
    verdict = availability.of_target(L4, NODES)
    assert verdict is not None
    (condition,) = availability.conditions(verdict, generation=3, before=(), now=NOW)
    assert (condition.type, condition.status, condition.reason) == ("GPUAvailable", "False", Reason.NO_MATCHING_NODE)
    assert "NVIDIA-H200 (1 node), NVIDIA-L40S (1 node)" in condition.message
    assert condition.observed_generation == 3


def test_a_gpu_that_a_node_has_is_available_and_only_its_own_product_is_named() -> None:
    verdict = availability.of_target(H200, NODES)
    assert verdict is not None
    assert (verdict.state, verdict.message) == (State.READY, "Of the GPUClass h200 there is: NVIDIA-H200 (1 node).")


def test_nothing_is_said_of_a_class_that_needs_no_gpu_or_where_nodes_may_not_be_read() -> None:
    assert availability.of_target(gpu_class(), NODES) is None
    assert availability.of_target(H200, None) is None
    assert availability.of_target(None, NODES) is None
    assert availability.conditions(None, generation=1, before=(), now=NOW) == ()


def test_one_missing_gpu_makes_the_engines_condition_false() -> None:
    found, missing = availability.of_target(H200, NODES), availability.of_target(L4, NODES)
    verdict = availability.of_engine([found, None, missing])
    assert verdict == missing
    assert availability.of_engine([found, None]) == found
    assert availability.of_engine([None]) is None


def test_the_time_of_change_stays_while_the_status_does() -> None:
    verdict = availability.of_target(H200, NODES)
    before = availability.conditions(verdict, generation=1, before=(), now=NOW)
    after = availability.conditions(verdict, generation=2, before=before, now=NOW + datetime.timedelta(hours=1))
    assert after[0].last_transition_time == before[0].last_transition_time
