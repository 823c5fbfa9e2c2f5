"""What a serving pod loads: neither the builder's packages nor the operator's, and nothing heavy before it is asked."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FORBIDDEN = ("onnx", "onnx_ir", "onnxscript", "cupy", "kopf", "kubernetes", "torch", "triton")
OURS = ("enginewright_builder", "enginewright_operator")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after running `code`."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import enginewright_runtime",
        "import enginewright_runtime.plan.container, enginewright_runtime.plan.request",
        "import enginewright_runtime.cli",
        "import enginewright_runtime.commands.serve, enginewright_runtime.commands.inspect",
    ],
)
def test_importing_the_runtime_loads_nothing_heavy(code: str) -> None:
    heavy = {*FORBIDDEN, *OURS, "numpy", "onnxruntime", "aiohttp", "boto3", "pydantic"}
    assert loaded_after(code) & heavy == set()


def test_serving_loads_neither_the_builder_nor_the_operator(
    make_plan: Callable[..., Path], models: Any, tmp_path: Path
) -> None:
    plan = make_plan(models.small())
    # The whole command in a process of its own: it is told to end by itself as soon as it says that it is ready.
    code = f"""
import os, signal
from enginewright_runtime import cli
from enginewright_runtime.commands import serve
said = serve._announce
def announce(listening):
    said(listening)
    if listening.ready:
        os.kill(os.getpid(), signal.SIGTERM)
serve._announce = announce
assert cli.main(["serve", {str(plan)!r}, "--http-port", "0", "--drain-delay", "0"]) == 0
"""
    loaded = loaded_after(code)
    assert {"onnxruntime", "aiohttp"} <= loaded
    assert loaded & {*FORBIDDEN, *OURS, "boto3"} == set()
