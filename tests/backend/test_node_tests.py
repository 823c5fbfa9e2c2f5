"""ONNX's own node tests: a selection over all operators in every run, all of them in the full one."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _runner():
    """The program beside this file: tests/ has no packages to import it from."""
    path = Path(__file__).with_name("node_tests.py")
    spec = importlib.util.spec_from_file_location("enginewright_node_tests", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


node_tests = _runner()


def failures(cases, way):
    verdicts = [node_tests.run_case(case, way) for case in cases]
    passed = sum(verdict.stage is node_tests.Stage.PASSED for verdict in verdicts)
    return passed, [f"{v.name}: {v.why}" for v in verdicts if v.stage is node_tests.Stage.FAILED]


def test_a_selection_that_onnx_runtime_passes_passes_through_the_passes():
    passed, failed = failures(node_tests.selection(), node_tests.by_passes)
    assert failed == []
    assert passed > 100


def test_a_selection_that_onnx_runtime_passes_passes_through_a_plan_file():
    passed, failed = failures(node_tests.selection()[::5], node_tests.by_plan)
    assert failed == []
    assert passed > 20


def test_a_way_that_gives_wrong_numbers_fails():
    case = next(case for case in node_tests.cases() if case.name == "test_abs")
    verdict = node_tests.run_case(case, lambda path, feeds, names: [value + 1 for value in feeds.values()])
    assert verdict.stage is node_tests.Stage.FAILED


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", list(node_tests.WAYS))
def test_every_node_test_that_onnx_runtime_passes_passes(way):
    passed, failed = failures(node_tests.cases(), node_tests.WAYS[way])
    assert failed == []
    assert passed > 1500
