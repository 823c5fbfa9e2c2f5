"""Ours against the peers on one GPU, side by side in one process, on networks from their public definitions.

usage: gpu_peers.py [--networks resnet50,bert] [--batches 1,8] [--peers eager,graph,compile,onnxruntime] [--budget 120]
       gpu_peers.py --report docs/gpu-peers.md

Each network and batch is a race: ours, built from the exported ONNX file, and the peers get ready, their answers are
held against float32, and all take turns. What was measured is in --record after every race, so a run that is cut off
keeps it, and the next run with the same --record does what is missing. --report writes the page and the plot beside it
from the record, on any machine. --device cpu tries all of it without a card: float32, torch eager only.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from peers import record
from peers.record import NETWORKS, PEERS, Conditions, Record

LIBRARIES = (
    "torch", "torchvision", "transformers", "triton", "onnxruntime-gpu", "nvidia-cudnn-cu13", "nvidia-cudnn-frontend",
    "nvidia-cublas", "cupy-cuda13x", "enginewright",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=_words, default=list(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--batches", type=_numbers, help="default: those with a goal")
    parser.add_argument("--peers", type=_words, default=list(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument(
        "--budget", type=float, default=0.0, help="seconds until a race begins without who is not ready"
    )
    parser.add_argument("--stop-after", type=float, default=0.0, help="seconds after which no race is begun")
    parser.add_argument("--seconds", type=float, default=1.0, help="of turns, and of running alone, a contender")
    parser.add_argument("--effort", default="balanced", help="of our build")
    parser.add_argument("--build-budget", default="", metavar="TIME", help="of our build's trials, such as 120s")
    parser.add_argument("--plans", type=Path, metavar="FOLDER", help="keep the models and our plans there, to inspect")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--record", type=Path, default=Path("gpu-peers.json"))
    parser.add_argument(
        "--report", type=Path, metavar="PAGE.md", help="only write the page, and its .svg, from the record"
    )
    told = parser.parse_args()
    for kind, given, known in (("network", told.networks, NETWORKS), ("peer", told.peers, PEERS)):
        if unknown := [word for word in given if word not in known]:
            parser.error(f"there is no {kind} {', '.join(unknown)}: there are {', '.join(known)}")
    return told


def run(told: argparse.Namespace) -> None:
    """All races that the record lacks."""
    begun = time.monotonic()
    import torch
    from peers import contenders, networks, racing

    from enginewright_runtime.engine.cuda import nvml

    torch.backends.cudnn.benchmark = True
    pictures = networks.PICTURES if told.device == "cuda" else networks.FEW
    races = record.read(told.record)
    conditions = races.under(_conditions(told, nvml.driver_version()))
    with ExitStack() as stack:
        workdir = told.plans or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workdir.mkdir(parents=True, exist_ok=True)
        meter = racing.unwatched
        if told.device == "cuda":
            from enginewright_runtime.engine.cuda.driver import gpu

            meter = stack.enter_context(nvml.metering(gpu().bus()))
        for name, batch, peers in wanted(races, told):
            left = told.stop_after - (time.monotonic() - begun) if told.stop_after else float("inf")
            if left <= 0:
                print(f"{told.stop_after:g} s are over: the next run goes on with {name} at batch {batch}.", flush=True)
                return
            budget = min(told.budget or float("inf"), left)
            until = time.monotonic() + budget
            orders = contenders.Orders(
                device=told.device, effort=told.effort, build_budget=told.build_budget, workdir=workdir
            )
            raced = racing.race(
                networks.subject(name, batch, told.device, pictures),
                peers, orders, conditions=conditions, seconds=told.seconds, until=until, meter=meter,
            )  # fmt: skip
            races.races.append(raced)
            record.write(told.record, races)
            print(said(raced), flush=True)
            contenders.forget()


def wanted(races: Record, told: argparse.Namespace) -> list[tuple[str, int, list[str]]]:
    """Network, batch and peers of every race that the record lacks."""
    rows = [(name, batch) for name in told.networks for batch in told.batches or NETWORKS[name].goals]
    found = [(name, batch, races.missing(name, batch, told.peers, told.budget or float("inf"))) for name, batch in rows]
    return [(name, batch, peers) for name, batch, peers in found if peers is not None]


def said(race: record.Race) -> str:
    """A line for whoever watches."""
    times = [f"{name} {each.ms:.3f} ms (error {each.error:.0e})" for name, each in race.results.items()]
    times += [f"{name}: {each.reason}" for name, each in race.declined.items()]
    return f"{race.network}, batch {race.batch}: {'; '.join(times)}"


def write(told: argparse.Namespace) -> None:
    """The page and its plot."""
    from peers import report

    races = record.read(told.record)
    if not races.races:
        sys.exit(f"{told.record} holds no race: measure first, or name another --record.")
    picture = told.report.with_suffix(".svg")
    report.plot(races, picture)
    told.report.write_text(report.page(races, picture.name), encoding="utf-8")


def _conditions(told: argparse.Namespace, driver: str) -> Conditions:
    import platform

    import torch

    versions = {"Python": platform.python_version(), "CUDA": str(torch.version.cuda)}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Conditions(
        gpu=torch.cuda.get_device_name() if told.device == "cuda" else f"{os.cpu_count()} CPUs, no GPU",
        driver=driver,
        versions=versions,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        command=shlex.join(["python", "bench/gpu_peers.py", *sys.argv[1:]]),
    )


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


if __name__ == "__main__":
    words = arguments()
    write(words) if words.report else run(words)
