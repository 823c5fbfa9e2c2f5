"""Requests and results: what a Job is asked in its environment, and what it answers in 4,096 bytes."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.outcome import PERMANENT, Outcome
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.request import (
    SENTENCE_LEAST,
    TERMINATION_LIMIT,
    BuildRequest,
    BuildResult,
    StoreOptions,
    Verdict,
)
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

texts = st.text(st.characters(codec="utf-8"), max_size=30)
VERDICT = Verdict(gate="latency", passed=False, measured=9.5, limit=7.0, unit="ms", message="2.5 ms too slow")


@given(model=texts, destination=texts, endpoint=texts, path_style=st.booleans())
def test_a_request_comes_back(model: str, destination: str, endpoint: str, path_style: bool) -> None:
    recipe = Recipe(model=model, target=TargetRequirement(kind=TargetKind.CPU), builder="0.1.0")
    storage = StoreOptions(endpoint=endpoint, path_style=path_style)
    request = BuildRequest(recipe=recipe, model=model, destination=destination, storage=storage)
    assert BuildRequest.from_json(request.to_json()) == request


def test_a_request_that_does_not_fit_names_the_field(recipe: Recipe) -> None:
    request = json.loads(BuildRequest(recipe=recipe, model="s3://a/b", destination="s3://a/c").to_json())
    request["storage"] = {"path_style": "yes"}
    with pytest.raises(PlanError, match=r'build request\.storage\.path_style must be true or false, got "yes"'):
        BuildRequest.from_json(json.dumps(request))


def test_a_result_comes_back() -> None:
    result = BuildResult(outcome="DONE", message="Built.", latency_ms={"1": 0.5}, gates=(VERDICT,), seconds=1.5)
    assert BuildResult.from_termination_message(result.to_termination_message()) == result


@pytest.mark.parametrize("text", ["", "Killed", "{", "[]", '{"outcome": 1, "message": ""}', '{"outcome":"DONE"}'])
def test_what_is_no_result_is_none(text: str) -> None:
    assert BuildResult.from_termination_message(text) is None


@given(
    message=st.text(max_size=3000).map(lambda text: text * 3),
    gates=st.integers(0, 60),
    latencies=st.integers(0, 200),
)
def test_a_termination_message_always_fits_and_is_read(message: str, gates: int, latencies: int) -> None:
    result = BuildResult(
        outcome="GATE_FAILED",
        message=message,
        gates=(VERDICT,) * gates,
        latency_ms={str(number): 0.5 for number in range(latencies)},
    )
    text = result.to_termination_message()
    read = BuildResult.from_termination_message(text)
    assert len(text.encode()) <= TERMINATION_LIMIT
    assert read is not None
    assert read.outcome == "GATE_FAILED"
    assert read.gates in (result.gates, ())


@pytest.mark.parametrize("character", ["x", "é", "日", "🙂", '"', "\\", "\n", "\x01"])
def test_a_long_sentence_is_cut_where_its_bytes_end(character: str) -> None:
    result = BuildResult(outcome="BAD_MODEL", message="a" + character * 5000 + "b")
    text = result.to_termination_message().encode()
    read = BuildResult.from_termination_message(text.decode())
    assert read is not None
    assert read.message.endswith(" …")
    assert result.message.startswith(read.message.removesuffix(" …"))
    wasted = TERMINATION_LIMIT - len(text)
    assert 0 <= wasted < len(json.dumps(character, ensure_ascii=False).encode()) or character == "\n"


def test_a_sentence_that_fits_is_whole() -> None:
    result = BuildResult.of(Outcome.BAD_MODEL, "x" * 3900)
    assert BuildResult.from_termination_message(result.to_termination_message()) == result


def test_the_latencies_go_before_the_gates_and_these_before_the_sentence() -> None:
    long = BuildResult(
        outcome="GATE_FAILED",
        message="y" * SENTENCE_LEAST,
        gates=(VERDICT,) * 10,
        latency_ms={str(number): 0.123456 for number in range(200)},
    )
    read = BuildResult.from_termination_message(long.to_termination_message())
    assert read == replace(long, latency_ms={})
    read = BuildResult.from_termination_message(replace(long, gates=(VERDICT,) * 60).to_termination_message())
    assert read == replace(long, latency_ms={}, gates=())


def test_a_file_name_that_is_no_text_can_stand_in_the_sentence() -> None:
    result = BuildResult.of(Outcome.BAD_MODEL, "The model \udcff.onnx is empty.")
    read = BuildResult.from_termination_message(result.to_termination_message())
    assert read is not None
    assert read.message == "The model ?.onnx is empty."


def test_exit_codes_are_unique_and_leave_room_for_the_shells() -> None:
    codes = [outcome.value for outcome in Outcome]
    assert len(set(codes)) == len(codes)
    assert max(codes) < 126


def test_what_would_end_the_same_way_again_is_permanent() -> None:
    assert all(outcome.permanent for outcome in PERMANENT)
    assert not any(outcome.permanent for outcome in (Outcome.STORAGE, Outcome.OUT_OF_MEMORY, Outcome.INTERNAL))


def test_where_timings_are_shared_changes_no_plans_name(recipe: Recipe) -> None:
    request = BuildRequest(recipe=recipe, model="s3://a/b", destination="s3://a/c", timing_cache="s3://a/timings")
    read = BuildRequest.from_json(request.to_json())
    assert (read.timing_cache, read.recipe.digest) == ("s3://a/timings", recipe.digest)
