"""The options of a host segment, read from the manifest: names, types and ranges, apart from ONNX Runtime itself.

The builder writes them (`Segment.options`), the host executor obeys them. Thread counts are the tuned ones, cut to
what this process may use: a plan tuned on 16 processors must not start 16 threads in a pod with two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records

# The plan's words for ONNX Runtime's graph optimization levels (GraphOptimizationLevel).
OPTIMIZATION: Mapping[str, str] = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_AFFINITIES = "session.intra_op_thread_affinities"  # of each thread beside the caller's; it counts CPUs from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """An initializer that lies in a blob of its own: C order, little endian."""

    blob: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What a plan may say about a host segment.

    Thread counts of 0 mean all that this process may use. `parallel` runs independent layers side by side on
    `inter_op_threads`. `bound` keeps each thread beside the caller's on a CPU of its own, where the process may use
    them all: the system may put two threads of a short run on one. `allow_spinning` keeps idle threads awake, which is
    fast on an idle machine and slow on a shared one. `denormals` false flushes them to zero.
    """

    graph_optimization: str = "all"
    intra_op_threads: int = 0
    inter_op_threads: int = 1
    parallel: bool = False
    bound: bool = False
    allow_spinning: bool = True
    mem_pattern: bool = True
    arena: bool = True
    denormals: bool = True
    weights: Mapping[str, Weight] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The options as ONNX Runtime names them, with thread counts that fit this machine."""

    optimization: str
    intra_op_threads: int
    inter_op_threads: int
    parallel: bool
    mem_pattern: bool
    arena: bool
    entries: Mapping[str, str]


def read_options(options: Mapping[str, Any], what: str) -> HostOptions:
    """Raises PlanError naming the option that is unknown or does not fit."""
    read = records.from_json(HostOptions, dict(options), what=f"the options of {what}")
    if read.graph_optimization not in OPTIMIZATION:
        raise PlanError(
            f"The option graph_optimization of {what} must be one of {', '.join(OPTIMIZATION)}, "
            f"got {read.graph_optimization!r}."
        )
    for name in ("intra_op_threads", "inter_op_threads"):
        if getattr(read, name) < 0:
            raise PlanError(f"The option {name} of {what} must be 0 or more, got {getattr(read, name)}.")
    return read


def read_weights(options: Mapping[str, Any], what: str) -> Mapping[str, Weight]:
    """The initializers that lie in blobs of their own, by name."""
    return read_options(options, what).weights


def session_settings(options: Mapping[str, Any], limits: Limits, what: str) -> SessionSettings:
    """The options in ONNX Runtime's words (onnxruntime_session_options_config_keys.h)."""
    read = read_options(options, what)
    spinning = "1" if read.allow_spinning else "0"
    threads = min(read.intra_op_threads or limits.threads, limits.threads)
    bound = read.bound and 1 < threads == len(limits.cores)
    return SessionSettings(
        optimization=OPTIMIZATION[read.graph_optimization],
        intra_op_threads=threads,
        inter_op_threads=min(read.inter_op_threads or limits.threads, limits.threads),
        parallel=read.parallel,
        mem_pattern=read.mem_pattern,
        arena=read.arena,
        entries={
            "session.intra_op.allow_spinning": spinning,
            "session.inter_op.allow_spinning": spinning,
            "session.set_denormal_as_zero": "0" if read.denormals else "1",
            **({_AFFINITIES: ";".join(str(core + 1) for core in limits.cores[1:])} if bound else {}),
        },
    )
