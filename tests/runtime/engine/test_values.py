"""Tensors as bytes and back, and when two tensors agree."""

from pathlib import Path

import numpy as np
import pytest

from enginewright_runtime.engine import available
from enginewright_runtime.engine.replay import disagreement
from enginewright_runtime.engine.values import DTYPES, STRING, dtype_of, from_bytes, to_bytes
from enginewright_runtime.errors import PlanError


@pytest.mark.parametrize("name", [name for name in DTYPES if name != STRING])
def test_every_dtype_reads_back_what_was_written(name: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(DTYPES[name])
    read = from_bytes(to_bytes(array), name, (2, 3))
    assert read.dtype == array.dtype
    assert read.tobytes() == array.tobytes()


def test_text_reads_back_what_was_written() -> None:
    array = np.array([["", "é"], ["a\0b", "x" * 300]], object)
    assert from_bytes(to_bytes(array), STRING, (2, 2)).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("data", "shape", "reason"),
    [
        (b"\x05\0\0\0abc", (1,), "runs past the end"),
        (b"\x05\0", (1,), "runs past the end"),
        (b"\x01\0\0\0a", (2,), "2 elements and the bytes hold 1"),
        (b"\x01\0\0\0\xff", (1,), "not UTF-8"),
        (b"", (-1,), "negative dimension"),
    ],
)
def test_text_that_is_not_as_it_says_is_refused(data: bytes, shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_bytes(data, STRING, shape)


def test_a_huge_shape_costs_nothing() -> None:
    with pytest.raises(ValueError, match="bytes, got 4"):
        from_bytes(b"abcd", "float32", (1 << 40, 1 << 40))


def test_an_unknown_dtype_is_refused_with_those_there_are() -> None:
    with pytest.raises(PlanError, match="'float3' is none that an engine takes; there are bool, int8"):
        dtype_of("float3")


@pytest.mark.parametrize(
    ("got", "kept", "agree"),
    [
        ([1.0], [1.0 + 1e-7], True),
        ([1.0], [1.1], False),
        ([np.nan], [np.nan], True),
        ([np.nan], [1.0], False),
        ([np.inf], [np.inf], True),
        ([np.inf], [-np.inf], False),
        ([1.0], [np.inf], False),
    ],
)
def test_tensors_agree_within_their_tolerance(got: list[float], kept: list[float], agree: bool) -> None:
    assert (disagreement(np.array(got), np.array(kept), 1e-5, 1e-5) == "") is agree


def test_tensors_of_other_dtype_or_shape_do_not_agree() -> None:
    assert "float32" in disagreement(np.zeros(2, np.float32), np.zeros(2), 1, 1)
    assert "[3]" in disagreement(np.zeros(2), np.zeros(3), 1, 1)
    assert disagreement(np.array(["a"], object), np.array(["b"], object), 1, 1) == "1 of 1 elements differ"


def test_a_quota_of_version_2_counts_at_every_ancestor(tmp_path: Path) -> None:
    group = tmp_path / "pods" / "one"
    group.mkdir(parents=True)
    (tmp_path / "pods" / "cpu.max").write_text("150000 100000\n")
    (group / "cpu.max").write_text("max 100000\n")
    assert available.quota("0::/pods/one\n", tmp_path) == 1.5


def test_a_quota_of_version_1_is_read_and_minus_one_is_none(tmp_path: Path) -> None:
    group = tmp_path / "cpu" / "pod"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    membership = "4:cpu,cpuacct:/pod\n3:memory:/pod\n"
    assert available.quota(membership, tmp_path) == 0
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    assert available.quota(membership, tmp_path) == 3


def test_this_machine_describes_itself() -> None:
    here = available.describe_host()
    assert here.kind == "cpu"
    assert here.processors >= 1
    assert here.libraries["onnxruntime"]
    assert available.cpu_model("processor\t: 0\nmodel name\t: A CPU\n") == "A CPU"
