"""Each check says one thing, and the chains ask in the order in which a person would mend."""

import datetime
from typing import Any

import pytest
from operator_objects import deployment, engine, engine_input, gpu_class, plan

from enginewright_operator import api, gpu, policies
from enginewright_operator.conditions import Reason, State, Verdict, conditions
from enginewright_operator.gather import EngineInput
from enginewright_operator.policies import ENGINE_CHECKS, TARGET_CHECKS, TargetView

NODES = (gpu.Node(name="a", labels={}, allocatable={}),)


def of_engine(**changes: Any) -> Verdict | None:
    return policies.first(ENGINE_CHECKS, engine_input(**changes))


def of_target(**changes: Any) -> Verdict:
    usual: dict[str, Any] = {
        "target": engine().spec.targets[0],
        "gpu_class": gpu_class(),
        "gpu_classes": ("cpu", "nvidia-h200"),
        "nodes": NODES,
        "wanted": plan(phase="Built"),
        "serving": plan().metadata.name,
        "replicas": 1,
        "deployment": deployment(updatedReplicas=1, availableReplicas=1, replicas=1, readyReplicas=1),
    }
    verdict = policies.first(TARGET_CHECKS, TargetView(**usual | changes))
    assert verdict is not None
    return verdict


def test_the_order_of_the_engines_checks() -> None:
    assert [check.__name__ for check in ENGINE_CHECKS] == [
        "paused", "gateway_api_missing", "name_taken", "storage_unknown", "file_uris_refused", "plugins_refused",
        "format_unknown", "credentials_missing", "signing_keys_missing", "inputs_unreadable",
    ]  # fmt: skip


def test_the_order_of_a_targets_checks() -> None:
    assert [check.__name__ for check in TARGET_CHECKS] == [
        "gpu_class_missing", "plan_terminating", "no_node", "build_not_begun", "build_failed", "build_hindered",
        "building", "rolled_back", "canary_under_way", "rolled_out",
    ]  # fmt: skip


def test_an_engine_that_is_as_it_should_be_is_not_held_up() -> None:
    assert of_engine() is None


PROBLEM = Verdict(state=State.WORKING, reason=Reason.STORAGE_UNREACHABLE, message="The store is down.")
SECRET = engine(storage={"uri": "s3://p", "credentialsSecret": "keys"})


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"engine": engine(paused=True)}, Reason.PAUSED, "spec.paused"),
        ({"storage": None}, Reason.STORAGE_UNKNOWN, "spec.storage.uri"),
        ({"engine": engine(model={"uri": "file:///etc/m.onnx"})}, Reason.FILE_STORAGE_REFUSED, "file:///etc/m.onnx"),
        ({"engine": engine(model={"uri": "s3://m/m"})}, Reason.FORMAT_UNKNOWN, "spec.model.format"),
        ({"engine": engine(build={"plugins": ["s3://m/own.py"]})}, Reason.PLUGINS_REFUSED, "plugins.allow"),
        ({"engine": SECRET, "credential_keys": None}, Reason.CREDENTIALS_MISSING, "The Secret keys"),
        ({"engine": SECRET, "credential_keys": frozenset()}, Reason.CREDENTIALS_MISSING, "AWS_ACCESS_KEY_ID"),
        ({"missing_keys": ("Secret plan-signing",)}, Reason.SIGNING_KEYS_MISSING, "The Secret plan-signing"),
        ({"storage_problem": PROBLEM}, Reason.STORAGE_UNREACHABLE, "The store is down."),
    ],
)
def test_what_holds_an_engine_up_is_named(changes: dict[str, Any], reason: Reason, words: str) -> None:
    verdict = of_engine(**changes)
    assert verdict is not None
    assert verdict.reason is reason
    assert words in verdict.message


def test_plugins_are_taken_where_the_operator_allows_them() -> None:
    assert of_engine(engine=engine(build={"plugins": ["s3://m/own.py"]}), plugins_allowed=True) is None


def test_files_of_one_machine_are_taken_where_pods_are_its_processes() -> None:
    assert of_engine(engine=engine(model={"uri": "file:///m.onnx"}), file_uris_allowed=True) is None


def test_a_target_that_serves_what_is_wanted_is_ready() -> None:
    verdict = of_target()
    assert (verdict.state, verdict.reason) == (State.READY, Reason.SERVING)


def test_a_missing_gpu_class_lists_those_that_there_are() -> None:
    verdict = of_target(gpu_class=None)
    assert verdict.reason is Reason.GPU_CLASS_MISSING
    assert "cpu, nvidia-h200" in verdict.message


def test_a_failed_build_gives_the_builders_sentence_and_says_what_serves() -> None:
    verdict = of_target(wanted=plan(phase="Failed", message="The model is empty."), serving="plan-old")
    assert (verdict.state, verdict.reason) == (State.STALLED, Reason.BUILD_FAILED)
    assert verdict.message.startswith("The model is empty.")
    assert "plan-old serves meanwhile" in verdict.message


def test_a_failed_build_that_is_tried_again_needs_no_person() -> None:
    verdict = Verdict(state=State.WORKING, reason=Reason.BUILD_FAILED, message="The store is down.")
    rows = conditions(verdict, generation=1, before=(), now=datetime.datetime.now(datetime.UTC))
    status = api.EnginePlanStatus(phase=api.Phase.FAILED, message="The store is down.", conditions=rows)
    told = of_target(wanted=plan().model_copy(update={"status": status}))
    assert (told.state, told.reason) == (State.WORKING, Reason.BUILD_FAILED)
    assert told.message.startswith("The store is down.")


def test_a_node_is_asked_for_only_while_there_is_something_to_build() -> None:
    assert of_target(nodes=(), wanted=None).reason is Reason.NO_MATCHING_NODE
    assert of_target(nodes=()).reason is Reason.SERVING


def test_a_plan_that_nobody_has_looked_at_waits() -> None:
    assert of_target(wanted=plan()).reason is Reason.WAITING_FOR_BUILD


@pytest.mark.parametrize(
    ("state", "reason"), [(State.WORKING, Reason.WAITING_FOR_BUILD), (State.STALLED, Reason.PAUSED)]
)
def test_a_plan_whose_job_is_made_next_is_told_of_in_the_words_of_one_that_nobody_has_looked_at(
    state: State, reason: Reason
) -> None:
    verdict = Verdict(state=state, reason=reason, message="The build Job is being made, or was held until now.")
    rows = conditions(verdict, generation=1, before=(), now=datetime.datetime.now(datetime.UTC))
    status = api.EnginePlanStatus(phase=api.Phase.PENDING, conditions=rows)
    looked_at = plan().model_copy(update={"status": status})
    assert of_target(wanted=looked_at) == of_target(wanted=plan())


def test_a_plan_in_the_builders_hands_is_said_to_be_built() -> None:
    verdict = of_target(wanted=plan(phase="Building", message="The plan is being built on a."), serving="plan-old")
    assert (verdict.state, verdict.reason) == (State.WORKING, Reason.BUILDING)
    assert "plan-old serves meanwhile" in verdict.message


def test_a_plan_on_its_way_out_is_waited_for() -> None:
    leaving = plan(phase="Built", deletionTimestamp="2026-01-01T00:00:00Z")
    assert of_target(wanted=leaving).reason is Reason.PLAN_TERMINATING


def test_an_object_of_somebody_elses_is_never_taken_over() -> None:
    verdict = of_engine(in_the_way=("Service e",))
    assert verdict is not None
    assert (verdict.state, verdict.reason) == (State.STALLED, Reason.NAME_TAKEN)
    assert "The Service e is in the namespace n already and is not this engine's" in verdict.message


def test_the_input_of_a_check_is_never_changed() -> None:
    inp: EngineInput = engine_input()
    policies.first(ENGINE_CHECKS, inp)
    assert inp == engine_input()
