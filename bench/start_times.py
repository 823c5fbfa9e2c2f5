"""How long it takes from nothing to the first answer: of a Python process with an Engine, and of `enginewright serve`.

usage: start_times.py X.plan [--runs 10] [--json]

The target is the plan's, so a plan for a GPU is measured on one. Each run is a process of its own, after one that does
not count (it fills the page cache and Python's byte code). All stamps are of the system's monotonic clock, the first
from before the process is started. `load` is `Engine(...)`: checksums, target, executors, on a GPU the graph. The
server replays the plan's golden inputs before it is ready, and its first answer is of a request over HTTP.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from enginewright_runtime.engine import available
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.manifest import Binding

# Stamps of a process as a user's program would be. Inputs are made before the engine is loaded.
PROGRAM = """
import json, sys, time
began = time.monotonic()
from enginewright_runtime.commands.arrays import random_inputs
from enginewright_runtime.engine.engine import Engine
imported = time.monotonic()
engine = Engine(sys.argv[1])
loaded = time.monotonic()
engine.infer(random_inputs(engine.manifest.schedules[0].inputs))
answered = time.monotonic()
print(json.dumps({"began": began, "imported": imported, "loaded": loaded, "answered": answered}), flush=True)
"""
SERVING = ("-m", "enginewright_runtime.cli", "serve", "--http-port", "0", "--drain-delay", "0", "--json")
TYPES: Mapping[str, str] = {"float32": "FP32", "float16": "FP16", "int64": "INT64", "int32": "INT32", "uint8": "UINT8"}


def program(plan: Path) -> dict[str, float]:
    """Seconds of one process that loads the plan and asks it once."""
    started = time.monotonic()
    said = subprocess.run([sys.executable, "-c", PROGRAM, str(plan)], check=True, capture_output=True, text=True)
    at = json.loads(said.stdout)
    return {
        "interpreter": at["began"] - started,
        "imports": at["imported"] - at["began"],
        "load": at["loaded"] - at["imported"],
        "first inference": at["answered"] - at["loaded"],
        "start to first answer": at["answered"] - started,
    }


def server(plan: Path, body: bytes) -> dict[str, float]:
    """Seconds of one server, until it is ready and until it has answered."""
    started = time.monotonic()
    command = [sys.executable, *SERVING, str(plan)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            ready = time.monotonic()
            url = f"{told['url']}/v2/models/{told['models'][0]['name']}/infer"
            with urllib.request.urlopen(urllib.request.Request(url, data=body)) as answer:
                json.load(answer)
            answered = time.monotonic()
        finally:
            process.terminate()
    return {"server: start to ready": ready - started, "server: start to first answer": answered - started}


def request(inputs: tuple[Binding, ...]) -> bytes:
    """A request of the Open Inference Protocol, in JSON: random values, zeroes for whole numbers."""
    random = np.random.default_rng(0)
    tensors = []
    for binding in inputs:
        shape = binding.shape or ()
        values = random.random(shape) if binding.dtype.startswith("float") else np.zeros(shape, int)
        data = values.reshape(-1).tolist()
        tensors.append({"name": binding.name, "shape": list(shape), "datatype": TYPES[binding.dtype], "data": data})
    return json.dumps({"inputs": tensors}).encode()


def medians(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each stretch the median, the least and the most, in seconds."""
    return {
        name: {"median": statistics.median(taken), "least": min(taken), "most": max(taken)}
        for name in runs[0]
        for taken in [[run[name] for run in runs]]
    }


def table(stretches: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown."""
    lines = ["| seconds | median | least | most |", "|---|---:|---:|---:|"]
    for name, each in stretches.items():
        lines.append(f"| {name} | {each['median']:.3f} | {each['least']:.3f} | {each['most']:.3f} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--json", action="store_true", dest="as_json")
    told = parser.parse_args()
    with PlanFile(told.plan) as file:
        inputs, target, size = file.manifest.schedules[0].inputs, file.manifest.target, told.plan.stat().st_size
    body = request(inputs)
    runs = [program(told.plan) | server(told.plan, body) for _ in range(told.runs + 1)][1:]
    here = available.describe(target)
    versions = ", ".join(f"{name} {version}" for name, version in here.libraries.items())
    found: dict[str, Any] = {
        "plan": f"{told.plan.name}, {size / 1e6:.1f} MB, target {target.kind}",
        "machine": f"{here.product or here.architecture}, {os.cpu_count()} CPUs, Python {platform.python_version()}, "
        f"NumPy {metadata.version('numpy')}, {versions}, load average {os.getloadavg()[0]:.1f}",
        "runs": told.runs,
        "seconds": medians(runs),
    }
    if told.as_json:
        print(json.dumps(found))
        return
    print(f"{found['plan']}; {found['machine']}; {told.runs} runs\n")
    print("\n".join(table(found["seconds"])))


if __name__ == "__main__":
    main()
