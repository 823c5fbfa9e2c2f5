"""Ours and the peers, each made ready to answer and to be timed on inputs that are already on the device."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from enginewright_builder import build, command_line
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.container import PlanFile
from peers.networks import Subject, export

TRIAL = 20  # runs of each way of a peer that has several


class Contender(Protocol):
    """Whoever takes part."""

    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """float32 outputs for a batch of the subject's size."""

    def milliseconds(self, count: int) -> Sequence[float]:
        """Of so many runs on the subject's inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a run wants of everyone: effort and time of our build, where files go."""

    device: str
    effort: str
    build_budget: str
    workdir: Path


class OnDevice:
    """Runs `replay` between events, all put on torch's stream before the first is waited for."""

    def __init__(self, replay: Callable[[], object], answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._replay, self.answer = replay, answer

    def milliseconds(self, count: int) -> list[float]:
        """Of each run, on the device's clock."""
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for begin, end in events:
            begin.record()
            self._replay()
            end.record()
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in events]


class OnHost:
    """The same by the host's clock, where everything runs on the CPU."""

    def __init__(self, replay: Callable[[], object], answer: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._replay, self.answer = replay, answer

    def milliseconds(self, count: int) -> list[float]:
        """Of each run."""
        taken = []
        for _ in range(count):
            started = time.perf_counter()
            self._replay()
            taken.append((time.perf_counter() - started) * 1e3)
        return taken


class Ours:
    """Our engine answers; the same program is timed without the copies to and from the host."""

    def __init__(self, engine: Engine, session: Any, device: str) -> None:
        self._engine, self._session, self._device = engine, session, device

    def answer(self, inputs: torch.Tensor) -> torch.Tensor:
        """Through `Engine.infer`, as a user would."""
        given = self._engine.infer({"x": inputs.cpu().numpy()})["y"]
        return torch.from_numpy(np.array(given)).to(self._device)

    def milliseconds(self, count: int) -> list[float]:
        """Of each replay of our graph, on its own stream: every one, as of the peers."""
        return list(self._session.time(count, every=True))


@contextmanager
def ours(each: Subject, orders: Orders, told: dict[str, Any]) -> Iterator[Contender]:
    """Built from the exported file. `told` gets the layers before and after."""
    model = orders.workdir / f"{each.name}.onnx"
    if not model.exists():
        export(each, model)
    batch = len(each.inputs)
    plan = orders.workdir / f"{each.name}.{batch}.plan"
    request = command_line.request(
        model=model, output=plan, target=orders.device, shapes=(), batches=str(batch), calibration=None, outputs=(),
        precisions="fp16" if orders.device == "cuda" else "", gate_words=(), effort=orders.effort,
        budget=orders.build_budget,
    )  # fmt: skip
    result = build.build(request, progress=Silent(), workdir=orders.workdir, overwrite=True)
    told["layers"] = f"{result.layers_before} → {result.layers_after}"
    with ExitStack() as stack:
        engine = stack.enter_context(Engine(plan))
        if orders.device == "cuda":
            session = stack.enter_context(_session(plan))
            session.set_inputs({"x": each.inputs.cpu().numpy()})
            yield Ours(engine, session, orders.device)
        else:
            feed = {"x": each.inputs.numpy()}
            yield OnHost(lambda: engine.infer(feed), Ours(engine, None, orders.device).answer)


@contextmanager
def _session(plan: Path) -> Iterator[Any]:
    """The plan's one device segment."""
    from enginewright_runtime.engine.cuda import executor
    from enginewright_runtime.engine.cuda.session import Session

    with PlanFile(plan) as file:
        (segment,) = file.manifest.schedules[0].segments
        program = executor.read_program(segment, file)
        blobs = {name: bytes(file.blob(name)) for name in segment.options["blobs"]}
        with Session(program, blobs) as session:
            yield session


@contextmanager
def eager(each: Subject, orders: Orders) -> Iterator[Contender]:
    """torch in float16 as it is (on the CPU in float32)."""
    if orders.device == "cuda":
        model, ask = each.half(), each.asked
    else:
        model, ask = each.model, lambda inputs: inputs
    inputs = ask(each.inputs)
    with torch.no_grad():
        for _ in range(3):
            model(inputs)
        timed = OnDevice if orders.device == "cuda" else OnHost
        yield timed(lambda: model(inputs), lambda more: model(ask(more)).float())


@contextmanager
def graph(each: Subject, orders: Orders) -> Iterator[Contender]:
    """torch in float16, captured into a CUDA graph."""
    model, inputs = each.half(), each.asked(each.inputs).clone()
    with torch.no_grad():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            result = model(inputs)
        yield OnDevice(captured.replay, _through(inputs, captured.replay, lambda: result, each))


@contextmanager
def compiled(each: Subject, orders: Orders) -> Iterator[Contender]:
    """torch.compile in its slowest and best mode, weights frozen into the code."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch._dynamo.reset()
    model, inputs = each.half(), each.asked(each.inputs)
    with torch.no_grad():
        run = torch.compile(model, mode="max-autotune")
        for _ in range(3):
            run(inputs)
        yield OnDevice(lambda: run(inputs), lambda more: run(each.asked(more)).float())


@contextmanager
def onnxruntime(each: Subject, orders: Orders) -> Iterator[Contender]:
    """ONNX Runtime's CUDA provider on the float16 export: exhaustive search, a CUDA graph, the faster of NHWC and NCHW.

    Neither layout is the best everywhere: in NHWC cuDNN has no plan for some convolutions, which then fall back.
    """
    import onnxruntime as library

    if "CUDAExecutionProvider" not in library.get_available_providers():
        raise RuntimeError(f"onnxruntime {library.__version__} has no CUDA provider: install onnxruntime-gpu instead")
    path = orders.workdir / f"{each.name}.{len(each.inputs)}.fp16.onnx"
    inputs = each.asked(each.inputs).contiguous()
    torch.onnx.export(
        each.half(attention="eager"), (inputs,), str(path), input_names=["x"], output_names=["y"], dynamo=False,
        opset_version=18,
    )  # fmt: skip
    layouts = ("1", "0") if inputs.is_floating_point() else ("0",)  # "1": NHWC, which is of pictures alone
    made = [_onnxruntime_session(each, path, inputs, prefer_nhwc) for prefer_nhwc in layouts]
    best = min(made, key=lambda contender: statistics.median(contender.milliseconds(TRIAL)))
    made.clear()
    yield best


def _onnxruntime_session(each: Subject, path: Path, inputs: torch.Tensor, prefer_nhwc: str) -> Contender:
    import onnxruntime as library

    result = torch.empty(each.right.shape, dtype=torch.float16, device=inputs.device)
    stream = torch.cuda.Stream()
    provider = {
        "enable_cuda_graph": "1", "cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0",
        "prefer_nhwc": prefer_nhwc, "user_compute_stream": str(stream.cuda_stream),
    }  # fmt: skip
    options = library.SessionOptions()
    options.log_severity_level = 3
    session = library.InferenceSession(str(path), options, providers=[("CUDAExecutionProvider", provider)])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("onnxruntime could not load its CUDA provider: its log says which library is missing")
    bound = session.io_binding()
    kind = np.float16 if inputs.is_floating_point() else np.int64
    bound.bind_input("x", "cuda", 0, kind, tuple(inputs.shape), inputs.data_ptr())
    bound.bind_output("y", "cuda", 0, np.float16, tuple(result.shape), result.data_ptr())
    with torch.cuda.stream(stream):
        for _ in range(3):
            session.run_with_iobinding(bound)
    replay = _on(stream, lambda: session.run_with_iobinding(bound))
    return OnDevice(replay, _through(inputs, replay, lambda: result, each))


def _on(stream: torch.cuda.Stream, run: Callable[[], object]) -> Callable[[], None]:
    """`run`, which works on `stream`, in the order of torch's current stream."""

    def ordered() -> None:
        stream.wait_stream(torch.cuda.current_stream())
        run()
        torch.cuda.current_stream().wait_stream(stream)

    return ordered


def _through(
    inputs: torch.Tensor, replay: Callable[[], object], result: Callable[[], torch.Tensor], each: Subject
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Answers of something that always reads the same buffer; the subject's own inputs are put back afterwards."""

    def answer(more: torch.Tensor) -> torch.Tensor:
        inputs.copy_(each.asked(more))
        replay()
        given = result().float().clone()
        inputs.copy_(each.asked(each.inputs))
        return given

    return answer


def forget() -> None:
    """Give back what the last contenders held, before the next race."""
    import gc

    torch._dynamo.reset()
    if "torch._inductor.async_compile" in sys.modules:
        sys.modules["torch._inductor.async_compile"].shutdown_compile_workers()
    gc.collect()
    torch.cuda.empty_cache()


MAKERS: dict[str, Callable[[Subject, Orders], Any]] = {
    "eager": eager,
    "graph": graph,
    "onnxruntime": onnxruntime,
    "compile": compiled,
}
