"""An input that was replaced in its store is noticed, and only its engines look again."""

from operator_objects import engine

from enginewright_operator.gather.inputs import Answer, Inputs, Question, question
from enginewright_runtime.errors import StorageError

STORAGE = engine().spec.storage
assert STORAGE is not None
ONE, TWO = (question("n", STORAGE, uri) for uri in ("s3://m/1.onnx", "s3://m/2.onnx"))


async def poll(inputs: Inputs, answers: dict[Question, Answer]) -> list[str]:
    told: list[str] = []

    async def ask(asked: Question) -> Answer:
        return answers[asked]

    asking = {ONE: [("n", "a"), ("n", "b")], TWO: [("n", "c")]}
    await inputs.poll({each: asking[each] for each in answers}, ask, lambda _, name: told.append(name), within=0)
    return told


def remembering() -> Inputs:
    inputs = Inputs()
    inputs.remember(ONE, "version:1")
    inputs.remember(TWO, "version:1")
    return inputs


async def test_only_the_engines_of_a_replaced_input_look_again() -> None:
    inputs = remembering()
    assert await poll(inputs, {ONE: "version:2", TWO: "version:1"}) == ["a", "b"]
    assert inputs.known([ONE]) == {ONE: "version:2"}


async def test_a_store_that_fails_is_told_by_the_engines_themselves() -> None:
    inputs = remembering()
    assert await poll(inputs, {ONE: StorageError("down"), TWO: "version:1"}) == ["a", "b"]
    assert inputs.known([ONE]) is None
    assert await poll(inputs, {ONE: StorageError("down"), TWO: "version:1"}) == [], "it is no news the second time"
    assert await poll(inputs, {ONE: "version:1", TWO: "version:1"}) == ["a", "b"]


async def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    inputs = remembering()
    await poll(inputs, {ONE: "version:1"})
    assert inputs.known([TWO]) is None


def test_an_answer_counts_for_its_namespace_alone() -> None:
    assert STORAGE is not None
    assert remembering().known([question("other", STORAGE, ONE.uri)]) is None
