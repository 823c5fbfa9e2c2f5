"""A short run of the fuzzer, so that it keeps working; docs/plan-format.md tells of a long one."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    path = Path(__file__).with_name("fuzz_plan_file.py")
    spec = importlib.util.spec_from_file_location("fuzz_plan_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_thousand_mutations_give_no_finding(fuzzer: ModuleType, tmp_path: Path) -> None:
    counts = fuzzer.fuzz(2_000, 7, tmp_path)
    assert counts["refused"] + counts["valid"] == 2_000
    assert counts["refused"] > 1_000


def test_the_fuzzer_finds_what_is_there_to_find(
    fuzzer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(_: Path) -> None:
        raise IndexError("a reader that does not check")

    monkeypatch.setattr(fuzzer, "PlanFile", careless)
    with pytest.raises(IndexError):
        fuzzer.fuzz(10, 7, tmp_path)


def test_repaired_mutations_come_past_the_digest(fuzzer: ModuleType, tmp_path: Path) -> None:
    original = fuzzer.a_plan(tmp_path / "x.plan")
    text, area = fuzzer.parts(original)
    assert fuzzer.assembled(text, area) == original
    assert fuzzer.manifest_value(original, random.Random(1)) != original
