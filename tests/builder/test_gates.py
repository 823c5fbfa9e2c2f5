"""Gates are pure: a measurement and a limit give a verdict with a sentence."""

from enginewright_builder import gates
from enginewright_runtime.plan.recipe import AccuracyGate, LatencyGate
from enginewright_runtime.plan.request import BuildResult


def test_an_accuracy_that_fell_too_far_says_from_where_to_where_and_what_to_do() -> None:
    verdict = gates.accuracy(AccuracyGate(data="sha256:0", max_drop=0.005), model=0.981, plan=0.969, samples=540)
    assert not verdict.passed
    assert verdict.message.startswith(
        "accuracy gate: top1 fell by 0.012 (0.981 -> 0.969) on 540 samples, the limit is 0.005; "
    )
    assert "calibration" in verdict.message
    assert verdict.limit == 0.005


def test_an_accuracy_on_the_limit_passes_and_one_that_rose_says_so() -> None:
    gate = AccuracyGate(data="sha256:0", max_drop=0.25)
    assert gates.accuracy(gate, model=1.0, plan=0.75, samples=4).passed
    better = gates.accuracy(gate, model=0.5, plan=0.75, samples=4)
    assert better.passed
    assert "rose by 0.25" in better.message


def test_a_latency_beyond_its_limit_fails_with_both_numbers() -> None:
    verdict = gates.latency(LatencyGate(batch=8, p99_ms=7), p99_ms=9.1234, samples=100)
    assert not verdict.passed
    assert "p99 at batch 8 is 9.12 ms over 100 inferences, the limit is 7 ms" in verdict.message
    assert gates.latency(LatencyGate(p99_ms=7), p99_ms=7.0, samples=100).passed


def test_memory_is_judged_in_bytes_and_told_in_mebibytes() -> None:
    verdict = gates.memory(1 << 30, resident=(1 << 30) + 1)
    assert not verdict.passed
    assert (verdict.measured, verdict.limit, verdict.unit) == ((1 << 30) + 1, 1 << 30, "bytes")
    assert "1024.0 MiB" in verdict.message
    assert gates.memory(1 << 30, resident=1 << 30).passed


def test_one_sentence_tells_of_every_gate_that_failed_and_of_no_other() -> None:
    failed = gates.memory(1, resident=2)
    slow = gates.latency(LatencyGate(p99_ms=1), p99_ms=2, samples=1)
    fine = gates.latency(LatencyGate(p99_ms=1), p99_ms=0.5, samples=1)
    sentence = gates.failure([failed, fine, slow])
    assert sentence.count("gate:") == 2
    assert sentence.endswith(".")
    assert gates.failure([fine]) == ""


def test_a_failure_carries_its_result_into_the_termination_message() -> None:
    verdict = gates.memory(1, resident=2)
    result = BuildResult(outcome="GATE_FAILED", message=gates.failure([verdict]), gates=(verdict,))
    error = gates.GatesFailedError(result)
    assert error.outcome.name == "GATE_FAILED"
    assert BuildResult.from_termination_message(error.result.to_termination_message()) == result
