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
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250, check=False)
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


def test_serving_a_request_loads_neither_the_builder_nor_the_operator(
    make_plan: Callable[..., Path], models: Any
) -> None:
    plan = make_plan(models.small())
    # The whole command in a process of its own: when it is ready it asks itself, in another thread, and then ends.
    code = f"""
import json, os, signal, threading, urllib.request
from enginewright_runtime import cli
from enginewright_runtime.commands import serve
said, answers = serve._announce, []
def ask(url):
    try:
        tensor = dict(name="x", datatype="FP32", shape=[2, 4], data=[1] * 8)
        request = urllib.request.Request(url + "/v2/models/small/infer", json.dumps(dict(inputs=[tensor])).encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            answers.append(json.loads(answer.read())["outputs"][0]["data"])
        urllib.request.urlopen(url + "/metrics", timeout=120).close()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
def announce(listening):
    said(listening)
    if listening.ready:
        threading.Thread(target=ask, args=(listening.url,)).start()
serve._announce = announce
assert cli.main(["serve", {str(plan)!r}, "--http-port", "0", "--drain-delay", "0"]) == 0
assert answers == [[0, 2, 6] * 2], answers
"""
    loaded = loaded_after(code)
    assert {"onnxruntime", "aiohttp"} <= loaded
    assert loaded & {*FORBIDDEN, *OURS, "boto3"} == set()
