"""The words of `enginewright build` to a request. Pure but for looking at the files that they name."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import enginewright_runtime
from enginewright_builder import identities
from enginewright_runtime.errors import InputError, ModelError, StorageDeniedError, UsageError
from enginewright_runtime.plan.recipe import (
    AccuracyGate,
    Effort,
    Gates,
    LatencyGate,
    Metric,
    ModelFormat,
    Precision,
    Recipe,
)
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import uris

Word = TypeVar("Word", Effort, Metric, Precision, TargetKind)

FORMATS: Mapping[str, ModelFormat] = {
    ".onnx": ModelFormat.ONNX,
    ".pb": ModelFormat.TENSORFLOW,
    ".caffemodel": ModelFormat.CAFFE,
}
_LARGEST = (1 << 31) - 1  # of a dimension: past it a tensor of bytes is larger than a plan may be
_UNITS: Mapping[str, int] = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
}
_GATES = "accuracy=FILE.npz,max-drop=0.005[,metric=top1|cosine], latency=7ms[,batch=1] or memory=2Gi"


def request(
    *,
    model: Path,
    output: Path,
    target: str,
    shapes: Sequence[str],
    batches: str,
    precisions: str,
    calibration: Path | None,
    outputs: Sequence[str],
    gate_words: Sequence[str],
    effort: str,
    allow_host: bool = False,
    plugins: Sequence[Path] = (),
    prototxt: Path | None = None,
    budget: str = "",
) -> BuildRequest:
    """The request that these words make. Raises UsageError, ModelError, InputError or StorageDeniedError."""
    _require_place(output)
    gates, data = read_gates(gate_words)
    return BuildRequest(
        recipe=Recipe(
            model=_identity(model, what="model"),
            format=format_of(model),
            companion=_identity(prototxt, what="prototxt") if prototxt else "",
            outputs=tuple(outputs),
            shapes=read_shapes(shapes),
            batch_sizes=_batches(batches),
            precisions=_precisions(precisions),
            calibration=_identity(calibration, what="calibration file") if calibration else "",
            effort=one_of(Effort, effort, "--effort"),
            gates=gates,
            allow_host=allow_host,
            plugins=tuple(_identity(plugin, what="plugin") for plugin in plugins),
            target=TargetRequirement(kind=one_of(TargetKind, target, "--target")),
            builder=enginewright_runtime.__version__,
        ),
        model=_uri(model),
        destination=_uri(output),
        companion=_uri(prototxt) if prototxt else "",
        calibration=_uri(calibration) if calibration else "",
        accuracy_data=_uri(data) if data else "",
        plugins=tuple(_uri(plugin) for plugin in plugins),
        budget_seconds=read_seconds(budget) if budget else 0.0,
    )


def format_of(model: Path) -> ModelFormat:
    """By the suffix; ONNX where it says nothing."""
    return FORMATS.get(model.suffix, ModelFormat.ONNX)


def read_shapes(words: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], ...]:
    """`image=1x3x224x224` words to schedules: an input that is named again begins the next schedule.

    An input that the next schedule does not name keeps its shape of before.
    """
    schedules: list[dict[str, tuple[int, ...]]] = []
    named: set[str] = set()
    for word in words:
        name, separator, text = word.rpartition("=")
        if not separator or not name or not re.fullmatch(r"\d+([x,]\d+)*|scalar", text):
            raise UsageError(f"--shape must look like image=1x3x224x224, got {word!r}.")
        shape = () if text == "scalar" else tuple(int(part) for part in re.split("[x,]", text))
        if max(shape, default=0) > _LARGEST:
            raise UsageError(f"--shape {word}: a dimension may be {_LARGEST} at most, got {max(shape)}.")
        if name in named or not schedules:
            schedules.append(dict(schedules[-1]) if schedules else {})
            named = set()
        schedules[-1][name] = shape
        named.add(name)
    return tuple(schedules)


def read_gates(words: Sequence[str]) -> tuple[Gates, Path | None]:
    """Gates, and the accuracy gate's data. Raises UsageError naming the word that is not understood."""
    accuracy: AccuracyGate | None = None
    latency: LatencyGate | None = None
    memory, data = 0, None
    for word in words:
        kind, _, rest = word.partition("=")
        value, *more = rest.split(",")
        options = dict(part.partition("=")[::2] for part in more)
        if kind == "accuracy" and value and set(options) <= {"max-drop", "metric"}:
            data = Path(value)
            accuracy = AccuracyGate(
                data=_identity(data, what="accuracy gate's data file"),
                metric=one_of(Metric, options.get("metric", Metric.TOP1), "--gate accuracy=…,metric"),
                max_drop=_share(options.get("max-drop", "0.005"), word),
            )
        elif kind == "latency" and set(options) <= {"batch"}:
            latency = LatencyGate(batch=_size(options.get("batch", "1"), word), p99_ms=read_milliseconds(value))
        elif kind == "memory" and not options:
            memory = read_bytes(value)
        else:
            raise UsageError(f"--gate must be {_GATES}, got {word!r}.")
    return Gates(accuracy=accuracy, latency=latency, memory=memory), data


def read_bytes(text: str) -> int:
    """`2Gi`, `500M` or plain bytes, as Kubernetes writes quantities."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]|[KMG]i)?", text)
    amount = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if not 0 < amount < 1 << 63:
        raise UsageError(f"An amount of memory must look like 2Gi, 500Mi or 1000000 and be more than 0, got {text!r}.")
    return amount


def read_milliseconds(text: str) -> float:
    """`7ms`, `1.5s`, `800us`, or a plain number of milliseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)?", text)
    latency = float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2] or "ms"] if match else 0.0
    if not 0 < latency < math.inf:
        raise UsageError(f"A latency must look like 7ms, 800us or 1.5s and be more than 0, got {text!r}.")
    return latency


def read_seconds(text: str) -> float:
    """`90s`, `10m`, `1.5h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    seconds = float(match[1]) * {"s": 1.0, "m": 60.0, "h": 3600.0}[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"A time budget must look like 90s, 10m or 1h and be more than 0, got {text!r}.")
    return seconds


def one_of(kind: type[Word], word: str, flag: str) -> Word:
    """The member of an enumeration that a word names. Raises UsageError with all of them."""
    if word not in list(kind):
        raise UsageError(f"{flag} must be one of {', '.join(kind)}, got {word!r}.")
    return kind(word)


def _batches(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"(\d+(,\d+)*)?", text):
        raise UsageError(f"--batch must look like 1,8, got {text!r}.")
    return tuple(_size(part, f"--batch {text}") for part in text.split(",") if part)


def _precisions(text: str) -> tuple[Precision, ...]:
    named = [one_of(Precision, part.strip(), "--precision") for part in text.split(",") if part.strip()]
    return tuple(dict.fromkeys([Precision.FP32, *named]))


def _share(text: str, word: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text) or float(text) > 1:
        raise UsageError(f"--gate {word}: {text!r} is no number from 0 to 1; it must be {_GATES}.")
    return float(text)


def _size(text: str, word: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or not 1 <= int(text) <= _LARGEST:
        raise UsageError(f"{word}: {text!r} is no size from 1 to {_LARGEST}.")
    return int(text)


def _require_place(plan: Path) -> None:
    """Refuse now what could not be stored at the end of minutes of tuning."""
    _refuse_uri(plan, "place of the plan")
    if plan.is_dir():
        raise UsageError(f"The plan must be a file, and {plan} is a folder: name one in it, as {plan / 'model.plan'}.")
    folder = next(parent for parent in plan.absolute().parents if os.path.exists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        reason = "you may not write to" if folder.is_dir() else "not a folder but"
        raise StorageDeniedError(f"The plan {plan} cannot be stored, {reason} {folder}: name another place with -o.")


def _refuse_uri(path: Path, what: str) -> None:
    """A path cannot be told from a URI where it is used: `s3://b/x` would become a folder named `s3:`."""
    scheme, separator, rest = str(path).partition(":/")
    if separator and re.fullmatch("[a-z][a-z0-9+.-]+", scheme):
        raise UsageError(
            f"The {what} must be a file of this machine, got the URI {scheme}://{rest}: give a path, or write a "
            "manifest, which takes URIs (enginewright up -f manifest.yaml)."
        )


def _identity(path: Path, *, what: str) -> str:
    _refuse_uri(path, what)
    try:
        return identities.of(path)
    except OSError as error:
        kind = ModelError if what == "model" else InputError
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise kind(f"The {what} {path} {reason}: give the path of a file.") from error


def _uri(path: Path) -> str:
    return uris.from_path(path.absolute() if ".." not in path.parts else path.resolve())
