"""Words of the command line to values."""

from pathlib import Path

import pytest

from enginewright_builder import command_line
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.recipe import ModelFormat


def test_an_input_named_again_begins_the_next_schedule() -> None:
    assert command_line.read_shapes(["a=1x2", "b=3", "a=4x2"]) == ({"a": (1, 2), "b": (3,)}, {"a": (4, 2), "b": (3,)})


def test_a_scalar_and_an_empty_dimension_can_be_written() -> None:
    assert command_line.read_shapes(["a=scalar", "b=0x4"]) == ({"a": (), "b": (0, 4)},)


@pytest.mark.parametrize("word", ["a", "=1", "a=", "a=1x", "a=-1", "a=1.5"])
def test_a_shape_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--shape must look like"):
        command_line.read_shapes([word])


@pytest.mark.parametrize(
    ("text", "wanted"), [("7", 7), ("2Gi", 2 << 30), ("1.5Ki", 1536), ("500M", 500_000_000), ("1k", 1000)]
)
def test_memory_is_written_as_kubernetes_does(text: str, wanted: int) -> None:
    assert command_line.read_bytes(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("7ms", 7.0), ("1.5s", 1500.0), ("800us", 0.8), ("3", 3.0)])
def test_latencies_have_units(text: str, wanted: float) -> None:
    assert command_line.read_milliseconds(text) == pytest.approx(wanted)


def test_gates_are_read_with_their_options(tmp_path: Path) -> None:
    data = tmp_path / "test.npz"
    data.write_bytes(b"samples")
    gates, path = command_line.read_gates(
        [f"accuracy={data},metric=cosine,max-drop=0.01", "latency=7ms,batch=8", "memory=1Gi"]
    )
    assert path == data
    assert gates.accuracy is not None
    assert (gates.accuracy.metric, gates.accuracy.max_drop) == ("cosine", 0.01)
    assert gates.latency is not None
    assert (gates.latency.batch, gates.latency.p99_ms) == (8, 7.0)
    assert gates.memory == 1 << 30


@pytest.mark.parametrize("word", ["accuracy=", "latency=7ms,size=3", "memory=1,2", "accuracy"])
def test_a_gate_that_is_none_is_refused_with_what_there_is(word: str) -> None:
    with pytest.raises(UsageError, match="--gate must be accuracy="):
        command_line.read_gates([word])


def test_the_format_follows_from_the_suffix() -> None:
    assert command_line.format_of(Path("a.caffemodel")) is ModelFormat.CAFFE
    assert command_line.format_of(Path("a.pb")) is ModelFormat.TENSORFLOW
    assert command_line.format_of(Path("a.model")) is ModelFormat.ONNX


@pytest.mark.parametrize(("text", "wanted"), [("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0)])
def test_a_time_budget_has_a_unit(text: str, wanted: float) -> None:
    assert command_line.read_seconds(text) == wanted


@pytest.mark.parametrize("text", ["10", "0s", "-1m", "ten minutes", "9" * 400 + "h"])
def test_a_time_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="A time budget must look like 90s, 10m or 1h"):
        command_line.read_seconds(text)
