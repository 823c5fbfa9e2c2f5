"""Ours against the peers on one GPU, side by side in one process, on networks from their public definitions.

usage: gpu_peers.py [resnet50:1,8,128 vgg19:1 ...] [--peers eager,graph,compile,onnxruntime] [--effort balanced]
                    [--seconds 1] [--write docs/gpu-peers.md] [--json FILE]

Networks are torchvision's and transformers', with random weights from a fixed seed, exported to ONNX in float32. Ours
is built from that file with --target cuda --precision fp16. Every peer runs the same network in float16 (NHWC where it
can), with inputs on the device; all results are compared with torch in float32 before anything is timed. Then all take
turns, a burst of replays each, so that clocks and temperature are alike; what counts is the median of the replays.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from enginewright_builder import build, command_line
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.cuda import executor
from enginewright_runtime.engine.cuda.session import Session
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.container import PlanFile

SEED = 20261123
BURST = 20  # replays in a turn
DEFAULT = ("resnet50:1,8,128", "vgg19:1,8,128", "inception_v3:1,8", "resnet152:1,8", "bert:1,8")
COMPILE = "torch.compile max-autotune"
Replay = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network with one batch of inputs, and what float32 gives for it (n, outputs...)."""

    name: str
    batch: int
    model: torch.nn.Module
    inputs: torch.Tensor
    right: torch.Tensor


class _Bert(torch.nn.Module):
    """BERT-base over 128 tokens, its last hidden state (n, 128, 768)."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        configuration = BertConfig(attn_implementation=attention)
        self.model = BertModel(configuration, add_pooling_layer=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token numbers (n, 128) to hidden states."""
        return self.model(input_ids=ids).last_hidden_state


def subject(name: str, batch: int, attention: str = "eager") -> Subject:
    """The network with random weights of a fixed seed, on the GPU in float32. BERT is exported with "eager" attention,
    written out; its fastest in torch is "sdpa"."""
    torch.manual_seed(SEED)
    if name == "bert":
        model: torch.nn.Module = _Bert(attention)
        inputs = torch.randint(0, 30000, (batch, 128))
    else:
        import torchvision.models

        more = {"init_weights": True} if name == "inception_v3" else {}
        model = getattr(torchvision.models, name)(weights=None, **more)
        if name == "inception_v3":
            model.aux_logits, model.AuxLogits = False, None
        side = 299 if name == "inception_v3" else 224
        inputs = pictures(batch, side)
    model = model.eval().cuda()
    inputs = inputs.cuda()
    with torch.no_grad(), exact():
        right = model(inputs).float()
    return Subject(name=name, batch=batch, model=model, inputs=inputs, right=right)


def pictures(batch: int, side: int) -> torch.Tensor:
    """Crops of scikit-image's photographs, normalized as ImageNet's are: (batch, 3, side, side) float32."""
    from skimage import data, transform

    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    generator = np.random.default_rng(SEED)
    made = []
    for number in range(batch):
        photograph = photographs[number % len(photographs)] / 255.0
        height, width = photograph.shape[:2]
        size = int(generator.integers(min(height, width) // 2, min(height, width)))
        top, left = (int(generator.integers(0, extent - size + 1)) for extent in (height, width))
        made.append(transform.resize(photograph[top : top + size, left : left + size], (side, side)))
    array = (np.stack(made).transpose(0, 3, 1, 2) - 0.45) / 0.225
    return torch.from_numpy(array.astype(np.float32))


@contextmanager
def exact() -> Iterator[None]:
    """No TF32: float32 as it is."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def ours(each: Subject, effort: str, workdir: Path, told: dict[str, Any]) -> Iterator[tuple[Replay, torch.Tensor]]:
    """Our engine from the exported file; the replay, and what the engine's goldens-checked run gives."""
    path = workdir / f"{each.name}.onnx"
    if not path.exists():
        torch.onnx.export(each.model, (each.inputs,), str(path), input_names=["x"], output_names=["y"], dynamo=False,
                          opset_version=18, dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})  # fmt: skip
    plan = workdir / f"{each.name}.{each.batch}.plan"
    request = command_line.request(
        model=path, output=plan, target="cuda", shapes=(), batches=str(each.batch), precisions="fp16", calibration=None,
        outputs=(), gate_words=(), effort=effort,
    )  # fmt: skip
    started = time.perf_counter()
    result = build.build(request, progress=Silent(), workdir=workdir, overwrite=True)
    told["build_s"] = round(time.perf_counter() - started, 1)
    told["layers"] = f"{result.layers_before} → {result.layers_after}"
    feed = {"x": each.inputs.cpu().numpy()}
    with Engine(plan) as engine:
        given = engine.infer(feed)["y"]
    with _session(plan) as session:
        session.set_inputs(feed)
        yield _Ours(session), torch.from_numpy(np.asarray(given)).cuda().float()


@contextmanager
def _session(plan: Path) -> Iterator[Session]:
    """The plan's one device segment, without the copies to and from the host."""
    with PlanFile(plan) as file:
        (segment,) = file.manifest.schedules[0].segments
        program = executor.read_program(segment, file)
        blobs = {name: bytes(file.blob(name)) for name in segment.options["blobs"]}
        with Session(program, blobs) as session:
            yield session


@dataclass(frozen=True, slots=True)
class _Ours:
    """Replays of our graph, timed on its own stream."""

    session: Session

    def __call__(self) -> None:
        """One replay."""
        self.session.time(1)

    def milliseconds(self, count: int) -> list[float]:
        """Of `count` replays, one by one."""
        return list(self.session.time(count))


@contextmanager
def torch_peer(each: Subject, how: str) -> Iterator[tuple[Replay, torch.Tensor]]:
    """torch in float16: as it is, captured into a CUDA graph, or compiled."""
    model = subject(each.name, each.batch, "sdpa").model.half()
    inputs = each.inputs
    if inputs.is_floating_point():
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.half().to(memory_format=torch.channels_last)
    with torch.no_grad():
        run = model
        if how == "compile":
            import torch._inductor.config as inductor

            inductor.freezing = True
            torch._dynamo.reset()
            run = torch.compile(model, mode="max-autotune")
        for _ in range(3):
            result = run(inputs)
        if how == "graph":
            replay, result = _captured(run, inputs)
            yield replay, result.float()
        else:
            yield lambda: run(inputs), result.float()


def _captured(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> tuple[Replay, torch.Tensor]:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run(inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run(inputs)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay, result


def burst(replay: Replay) -> list[float]:
    """Milliseconds of BURST replays, each between events on torch's or the engine's stream."""
    timed = getattr(replay, "milliseconds", None)
    if timed is not None:
        return list(timed(BURST))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(BURST)]
    for begin, end in events:
        begin.record()
        replay()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) for begin, end in events]


def race(name: str, batch: int, peers: list[str], effort: str, seconds: float, workdir: Path) -> dict[str, Any]:
    """One row: median milliseconds of everyone, and how far each is from float32."""
    each = subject(name, batch)
    told: dict[str, Any] = {"network": name, "batch": batch, "ms": {}, "error": {}, "declined": {}}
    makers: dict[str, Callable[[], Any]] = {"ours": lambda: ours(each, effort, workdir, told)}
    for how in ("eager", "graph", "compile"):
        if how in peers:
            title = {"eager": "torch eager", "graph": "torch eager, CUDA graph", "compile": COMPILE}[how]
            makers[title] = lambda how=how: torch_peer(each, how)
    with ExitStack() as stack:
        runs: dict[str, Replay] = {}
        for title, make in makers.items():
            started = time.perf_counter()
            try:
                replay, got = stack.enter_context(make())
            except Exception as error:  # a peer that fails is a row that says so
                told["declined"][title] = f"{type(error).__name__}: {str(error)[:300]}"
                continue
            runs[title] = replay
            told["error"][title] = round(float((got - each.right).norm() / each.right.norm()), 6)
            told.setdefault("ready_s", {})[title] = round(time.perf_counter() - started, 1)
        samples: dict[str, list[float]] = {title: [] for title in runs}
        until = time.perf_counter() + seconds * len(runs)
        while time.perf_counter() < until:
            for title, replay in runs.items():
                samples[title] += burst(replay)
        told["ms"] = {title: round(statistics.median(taken[BURST:] or taken), 4) for title, taken in samples.items()}
    return told


def table(rows: list[Mapping[str, Any]]) -> str:
    """The rows as Markdown; the ratio is of the best peer's time to ours."""
    titles = list(dict.fromkeys(title for row in rows for title in row["ms"]))
    lines = [
        "| network | batch | layers | build s | " + " | ".join(f"{t}, ms" for t in titles) + " | best peer / ours |"
    ]
    lines.append("|---|---:|---|---:|" + "---:|" * len(titles) + "---:|")
    for row in rows:
        peers = [value for title, value in row["ms"].items() if title != "ours"]
        ratio = f"{min(peers) / row['ms']['ours']:.2f}" if peers and "ours" in row["ms"] else "-"
        cells = " | ".join(
            f"{row['ms'][t]:.3f}" if t in row["ms"] else row["declined"].get(t, "-")[:80] for t in titles
        )
        what = f"{row['network']} | {row['batch']} | {row.get('layers', '-')} | {row.get('build_s', '-')}"
        lines.append(f"| {what} | {cells} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the words, run every network, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=DEFAULT)
    parser.add_argument("--peers", default="eager,graph")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    rows: list[dict[str, Any]] = []
    heading = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {platform.python_version()}"
    with tempfile.TemporaryDirectory() as folder:
        for word in told.networks:
            name, _, batches = word.partition(":")
            for batch in batches.split(","):
                row = race(name, int(batch), told.peers.split(","), told.effort, told.seconds, Path(folder))
                rows.append(row)
                print(json.dumps(row), flush=True)
                if told.json:
                    told.json.write_text(json.dumps(rows, indent=1))
    print(table(rows))
    if told.write:
        command = f"python bench/gpu_peers.py {' '.join(told.networks)} --peers {told.peers} --effort {told.effort}"
        told.write.write_text(f"{heading}\n\n    {command}\n\n{table(rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
