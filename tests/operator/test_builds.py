"""What a Job and its pods say becomes a phase, a sentence, and the decision to try again or not."""

import datetime
from typing import Any

import pytest
from operator_objects import gpu_class, plan

from enginewright_operator import api, builds, gpu, recipes
from enginewright_operator.conditions import Reason, State
from enginewright_operator.gather import PlanInput
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.progress import BuildProgress
from enginewright_runtime.plan.request import BuildResult, Verdict

NODES = (gpu.Node(name="a", labels={}, allocatable={}),)
NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def job(*conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "j"} | metadata, "spec": {}, "status": {"conditions": list(conditions)}}


def ended(message: str = "", *, code: int = 0, reason: str = "") -> dict[str, Any]:
    terminated = {"exitCode": code, "message": message, "reason": reason}
    return {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "a"},
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"state": {"terminated": terminated}}],
        },
    }


def pending(**status: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {}, "status": {"phase": "Pending"} | status}


COMPLETE = {"type": "Complete", "status": "True"}
FAILED = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code 10"}
DEADLINE = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}


def judge(**changes: Any) -> builds.Finding:
    usual: dict[str, Any] = {"plan": plan(), "gpu_class": gpu_class(), "nodes": NODES}
    return builds.judge(PlanInput(**usual | changes))


def ran(image: str, *, container: str = "build") -> dict[str, Any]:
    return {"metadata": {}, "status": {"containerStatuses": [{"name": container, "imageID": image}]}}


def test_the_image_of_the_last_build_is_the_one_that_its_kubelet_tells() -> None:
    pods = (ran("builder@sha256:a"), ran("builder@sha256:b"), ran("proxy@sha256:c", container="sidecar"), ran(""))
    assert builds.image(PlanInput(plan=plan(), pods=pods)) == "builder@sha256:b"
    known = plan().model_copy(update={"status": api.EnginePlanStatus(builder_image="builder@sha256:a")})
    assert builds.image(PlanInput(plan=known)) == "builder@sha256:a", "its pod is gone"
    assert builds.image(PlanInput(plan=plan(), pods=(pending(),))) == ""


def test_a_plan_without_a_job_gets_one() -> None:
    assert judge().create_job
    assert not judge(job=job()).create_job


def test_no_job_is_made_where_no_node_is_of_the_class() -> None:
    finding = judge(nodes=())
    assert not finding.create_job
    assert (finding.verdict.state, finding.verdict.reason) == (State.STALLED, Reason.NO_MATCHING_NODE)


def test_a_missing_class_stalls() -> None:
    assert judge(gpu_class=None).verdict.reason is Reason.GPU_CLASS_MISSING


def test_a_job_on_its_way_out_is_waited_for() -> None:
    finding = judge(job=job(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert not finding.create_job
    assert finding.verdict.reason is Reason.WAITING_FOR_BUILD


def test_the_schedulers_own_words_say_why_a_build_waits() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: Insufficient cpu."}
    finding = judge(job=job(), pods=(pending(conditions=[unscheduled]),))
    assert (finding.phase, finding.verdict.reason) == (api.Phase.PENDING, Reason.WAITING_FOR_NODE)
    assert "Insufficient cpu" in finding.verdict.message


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        ('pods "p" is forbidden: exceeded quota: gpus, requested: 1, used: 4, limited: 4', Reason.QUOTA_EXCEEDED),
        ('pods "p" is forbidden: minimum memory usage per Container is 2Gi', Reason.WAITING_FOR_NODE),
    ],
)
def test_a_pod_that_cannot_be_made_says_why(refusal: str, reason: Reason) -> None:
    finding = judge(job=job(), refusal=refusal)
    assert (finding.phase, finding.verdict.state, finding.verdict.reason) == (api.Phase.PENDING, State.WORKING, reason)
    assert refusal in finding.verdict.message


def test_an_image_that_cannot_be_pulled_says_why_a_build_waits() -> None:
    waiting = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]
    finding = judge(job=job(), pods=(pending(containerStatuses=waiting),))
    assert "ImagePullBackOff no such image" in finding.verdict.message


def test_a_running_pod_builds() -> None:
    running = {"metadata": {}, "spec": {"nodeName": "gpu-0"}, "status": {"phase": "Running"}}
    finding = judge(job=job(), pods=(running,))
    assert finding.phase is api.Phase.BUILDING
    assert "gpu-0" in finding.verdict.message


def test_a_completed_job_gives_the_builders_result() -> None:
    gate = Verdict(gate="latency", passed=True, measured=1.0, limit=2.0, unit="ms")
    result = BuildResult(outcome="DONE", message="Built.", plan_bytes=9, layers_before=3, layers_after=2, gates=(gate,))
    finding = judge(job=job(COMPLETE), pods=(ended(result.to_termination_message()),))
    assert finding.phase is api.Phase.BUILT
    assert finding.result == result
    assert builds.measurements(result).layers_after == 2
    assert builds.verdicts(result)[0].gate == "latency"


def test_a_completed_job_whose_pod_is_gone_is_built_all_the_same() -> None:
    assert judge(job=job(COMPLETE)).phase is api.Phase.BUILT


def test_a_failed_job_gives_the_builders_own_sentence() -> None:
    text = BuildResult.of(Outcome.BAD_MODEL, "The model is empty.").to_termination_message()
    finding = judge(job=job(FAILED), pods=(ended(text, code=10),))
    assert (finding.phase, finding.verdict.state) == (api.Phase.FAILED, State.STALLED)
    assert finding.verdict.message == "The model is empty."


def test_a_build_that_was_killed_for_memory_says_so() -> None:
    finding = judge(job=job(FAILED), pods=(ended(code=137, reason="OOMKilled"),))
    assert finding.result is not None
    assert finding.result.outcome == "OUT_OF_MEMORY"
    assert "OOMKilled" in finding.verdict.message
    assert "spec.build.workspace" not in finding.verdict.message


def with_status(**status: Any) -> api.EnginePlan:
    return plan().model_copy(update={"status": api.EnginePlanStatus(**status)})


def test_a_build_without_enough_memory_is_tried_again_at_once_with_half_of_the_workspace() -> None:
    failed = with_status(outcome="OUT_OF_MEMORY", attempts=1, finished_at="2026-01-01T12:00:00Z")
    assert failed.status is not None
    assert builds.retry_in(failed.status, now=NOW) == 0.0
    assert builds.next_workspace(failed) == 1 << 29


def test_it_is_tried_again_once_and_then_the_sentence_says_what_to_change() -> None:
    second = with_status(workspace=1 << 29)
    assert builds.next_workspace(second) == 1 << 29
    assert recipes.build_request(second).workspace_limit == 1 << 29
    finding = judge(plan=second, job=job(FAILED), pods=(ended(code=137, reason="OOMKilled"),))
    assert "spec.build.workspace" in finding.verdict.message
    ended_again = api.EnginePlanStatus(outcome="OUT_OF_MEMORY", workspace=1 << 29, finished_at="2026-01-01T12:00:00Z")
    assert builds.retry_in(ended_again, now=NOW + datetime.timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("outcome", "workspace", "state"),
    [
        (Outcome.GATE_FAILED, 0, State.STALLED),
        (Outcome.STORAGE, 0, State.WORKING),
        (Outcome.STORAGE, 1 << 29, State.WORKING),
        (Outcome.OUT_OF_MEMORY, 0, State.WORKING),
        (Outcome.OUT_OF_MEMORY, 1 << 29, State.STALLED),
    ],
)
def test_only_a_failure_that_is_not_tried_again_waits_for_a_person(
    outcome: Outcome, workspace: int, state: State
) -> None:
    text = BuildResult.of(outcome, "It failed.").to_termination_message()
    finding = judge(plan=with_status(workspace=workspace), job=job(FAILED), pods=(ended(text, code=int(outcome)),))
    assert (finding.phase, finding.verdict.state) == (api.Phase.FAILED, state)
    after = api.EnginePlanStatus(outcome=outcome.name, workspace=workspace, finished_at="2026-01-01T12:00:00Z")
    assert (builds.retry_in(after, now=NOW) is None) is (state is State.STALLED), "and it is tried again"


def test_other_failures_leave_the_workspace_as_it_is() -> None:
    assert builds.next_workspace(plan()) == 0
    assert builds.next_workspace(with_status(outcome="STORAGE")) == 0


def test_a_build_that_says_nothing_is_pointed_to_its_logs() -> None:
    finding = judge(job=job(FAILED), pods=(ended("Segmentation fault", code=139),))
    assert "kubectl logs job/" in finding.verdict.message
    assert "139" in finding.verdict.message


def test_a_build_past_its_deadline_says_which_field_to_change() -> None:
    finding = judge(plan=plan(phase="Building"), job=job(DEADLINE))
    assert "spec.build.deadline" in finding.verdict.message


def test_a_deadline_that_passed_while_waiting_for_a_node_is_no_fault_of_the_build() -> None:
    finding = judge(plan=plan(phase="Pending"), job=job(DEADLINE))
    assert finding.result is not None
    assert finding.result.outcome == "INTERRUPTED"


def test_a_plan_that_was_tampered_with_is_never_built() -> None:
    odd = plan()
    odd = odd.model_copy(update={"spec": odd.spec.model_copy(update={"recipe": odd.spec.recipe | {"workspace": 1}})})
    finding = judge(plan=odd)
    assert finding.phase is api.Phase.FAILED
    assert not finding.create_job
    assert "does not hold together" in finding.verdict.message


def test_a_plan_whose_file_lies_elsewhere_is_never_built() -> None:
    odd = plan()
    odd = odd.model_copy(update={"spec": odd.spec.model_copy(update={"plan_uri": "s3://p/plans/other/x/engine.plan"})})
    assert judge(plan=odd).phase is api.Phase.FAILED


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 60.0), (2, 120.0), (20, 3600.0)])
def test_what_may_pass_is_tried_again_later_and_later(attempts: int, seconds: float) -> None:
    status = api.EnginePlanStatus(outcome="STORAGE", attempts=attempts, finished_at="2026-01-01T12:00:00Z")
    assert builds.retry_in(status, now=NOW) == seconds
    assert builds.retry_in(status, now=NOW + datetime.timedelta(hours=2)) == 0.0


def test_another_try_does_not_wait_for_a_clock_that_was_set_back() -> None:
    status = api.EnginePlanStatus(outcome="STORAGE", attempts=1, finished_at="2026-01-01T12:00:00Z")
    assert builds.retry_in(status, now=NOW - datetime.timedelta(days=1)) == 0.0


def test_what_would_end_the_same_way_is_not_tried_again() -> None:
    status = api.EnginePlanStatus(outcome="BAD_MODEL", attempts=1, finished_at="2026-01-01T12:00:00Z")
    assert builds.retry_in(status, now=NOW) is None


def running(log: str) -> builds.Finding:
    pod = {"metadata": {}, "spec": {"nodeName": "gpu-7"}, "status": {"phase": "Running"}}
    return judge(job=job(), pods=(pod,), log=log)


def test_a_running_build_says_how_far_it_is() -> None:
    line = BuildProgress(phase="Trying tactics", done=12, total=42, seconds_left=40).to_line()
    finding = running(f"Reading the network …\n{line}\n  13/42 fused, 1 thread\n")
    assert finding.verdict.message == ("The plan is being built on gpu-7: Trying tactics, 12 of 42, about 40 s left.")
    assert builds.shown(finding.progress) == api.BuildProgress(
        phase="Trying tactics", done=12, total=42, seconds_left=40
    )


@pytest.mark.parametrize(
    "log", ["", "progress: {", "progress: []", 'progress: {"phase": 3}', "progress: " + "x" * 9000]
)
def test_a_log_without_progress_or_with_a_damaged_one_says_where_it_is_built(log: str) -> None:
    assert running(log).verdict.message == "The plan is being built on gpu-7."


def test_a_suspended_job_is_queued() -> None:
    suspended = job() | {"spec": {"suspend": True}}
    finding = judge(job=suspended)
    assert (finding.verdict.state, finding.verdict.reason) == (State.WORKING, Reason.QUEUED)
    assert "waits suspended until it is admitted" in finding.verdict.message


def test_the_end_of_a_log_is_for_people_and_fits_into_an_event() -> None:
    line = BuildProgress(phase="Trying tactics").to_line()
    end = builds.log_end("\n".join([line, *(f"line {number} {'x' * 90}" for number in range(30)), "", "the last"]))
    assert end.startswith("The end of the build's log:\n")
    assert end.endswith("\nthe last")
    assert "progress:" not in end
    assert len(end) <= 1024
    assert builds.log_end(line) == ""
