"""A segment with plugins: refused without leave before anything runs, and where it does not hold together."""

import json
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine.executor import ExecutionError, Limits
from enginewright_runtime.engine.plugins import PluginExecutor, PluginsNotAllowedError
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.manifest import Segment

SOURCE = b"""
from enginewright_runtime.plugins import plugin

@plugin("com.example.Add", attributes={"by": 1.0})
def add(x, *more, by):
    return x + by + sum(more)
"""
PART = {"inputs": ["x"], "outputs": ["y"], "blob": "add.py", "plugin": "com.example.Add"}
LEAVE = Limits(threads=1, plugins=True)
X = np.ones(2)


class Blobs:
    def __init__(self, **blobs: bytes) -> None:
        self.blobs = blobs

    def blob(self, name: str) -> memoryview:
        return memoryview(self.blobs[name])


def executor(*parts: dict[str, Any], source: bytes = SOURCE, limits: Limits = LEAVE) -> PluginExecutor:
    segment = Segment(executor="plugins", inputs=("x",), outputs=("y",), blob="parts", options={"blobs": ["add.py"]})
    blobs = {"parts": json.dumps({"parts": parts}).encode(), "add.py": source, "k": np.full(2, 5.0).tobytes()}
    return PluginExecutor(segment, Blobs(**blobs), limits)


def test_a_plugin_runs_with_its_attributes_and_constants() -> None:
    constant = {"k": {"blob": "k", "dtype": "float64", "shape": [2]}}
    made = executor({**PART, "inputs": ["x", "k"], "weights": constant, "attributes": {"by": 2.0}})
    np.testing.assert_array_equal(made.run({"x": X})["y"], [8, 8])


def test_without_leave_nothing_of_the_module_runs() -> None:
    with pytest.raises(PluginsNotAllowedError, match=r"\(com\.example\.Add\)"):
        executor(PART, source=b"raise SystemExit", limits=Limits(threads=1))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"inputs": ["z"]}, "takes 'z', which none before it gives"),
        ({"outputs": ["z"]}, "and the manifest says ['y']"),
        ({"plugin": "com.example.Sub"}, "defines com.example.Add, and not com.example.Sub"),
        ({"inputs": ["k"], "weights": {"k": {"blob": "k", "dtype": "float64", "shape": [3]}}}, "does not fit its blob"),
        ({"attributes": 3}, "must be an object"),
        ({"code": "x"}, "has the unknown field 'code'"),
    ],
)
def test_what_does_not_hold_together_is_refused(part: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError) as caught:
        executor({**PART, **part})
    assert sentence in caught.value.message


def test_a_plugin_that_fails_or_gives_other_outputs_says_so() -> None:
    with pytest.raises(ExecutionError, match=r"com\.example\.Add failed: ValueError"):
        executor(PART, source=SOURCE.replace(b"return", b"raise ValueError(1)\n    return")).run({"x": X})
    with pytest.raises(ExecutionError, match="gives 1 outputs, and the plan has 2"):
        executor({**PART, "outputs": ["y", "z"]}).run({"x": X})
