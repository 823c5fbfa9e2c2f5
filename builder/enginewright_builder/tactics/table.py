"""TACTICS: every way in which the CPU may run a whole segment, in order of simplicity, each with its reason.

The order is the tie-break: of candidates that time cannot tell apart, the earliest wins. So what wakes fewer threads
and burns less while idle stands first, and the network with our passes before the one without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from enginewright_builder.tactics.variant import Variant
from enginewright_runtime.plan.recipe import Effort

EFFORTS = (Effort.FAST, Effort.BALANCED, Effort.THOROUGH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides which tactics make sense: usable CPUs, physical cores among them, whether the graph branches."""

    processors: int
    cores: int
    branches: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tactic:
    """One setting of an executor. `effort` is the least at which it is tried, `options` are the executor's own."""

    name: str
    options: Callable[[Machine], Mapping[str, Any]]
    effort: Effort
    reason: str
    applies: Callable[[Machine], bool] = lambda _machine: True
    executor: str = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A tactic on one variant of the network."""

    variant: Variant
    tactic: Tactic
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As reports show it."""
        return f"{self.variant}, {self.tactic.name}"


VARIANTS: tuple[tuple[Variant, Effort, str], ...] = (
    (Variant.FUSED, Effort.FAST, "fewer layers, and constants folded for exactly these shapes"),
    (Variant.CONTRIB, Effort.BALANCED, "the library's own fused kernels, where it would not find the fusion itself"),
    (Variant.UNTOUCHED, Effort.FAST, "the library's optimizer may know the exported pattern better than ours"),
)


def _several(machine: Machine) -> bool:
    return machine.processors > 1


TACTICS: tuple[Tactic, ...] = (
    Tactic(
        name="1 thread",
        options=lambda _: {"graph_optimization": "all", "intra_op_threads": 1, "allow_spinning": False},
        effort=Effort.FAST,
        reason="a small network loses more by waking threads than it gains",
    ),
    Tactic(
        name="all threads, no spinning",
        options=lambda _: {"graph_optimization": "all", "intra_op_threads": 0, "allow_spinning": False},
        effort=Effort.BALANCED,
        reason="threads that sleep between layers leave the CPU to others; long layers do not mind",
        applies=_several,
    ),
    Tactic(
        name="all threads",
        options=lambda _: {"graph_optimization": "all", "intra_op_threads": 0, "bound": True},
        effort=Effort.FAST,
        reason="the library's own default, and the fastest for most convolutional networks",
        applies=_several,
    ),
    Tactic(
        name="physical cores",
        options=lambda m: {"graph_optimization": "all", "intra_op_threads": m.cores},
        effort=Effort.FAST,
        reason="two hyper-threads share one vector unit",
        applies=lambda machine: 1 < machine.cores < machine.processors,
    ),
    Tactic(
        name="1 thread, plain layout",
        options=lambda _: {"graph_optimization": "extended", "intra_op_threads": 1, "allow_spinning": False},
        effort=Effort.BALANCED,
        reason="level all reorders tensors into blocks of channels, which narrow networks pay for in copies",
    ),
    Tactic(
        name="all threads, plain layout",
        options=lambda _: {"graph_optimization": "extended", "intra_op_threads": 0, "bound": True},
        effort=Effort.BALANCED,
        reason="the same reordering, for networks that several threads help",
        applies=_several,
    ),
    Tactic(
        name="parallel branches",
        options=lambda _: {
            "graph_optimization": "all",
            "intra_op_threads": 1,
            "inter_op_threads": 0,
            "parallel": True,
        },
        effort=Effort.BALANCED,
        reason="independent branches of small layers run side by side",
        applies=lambda machine: machine.branches and machine.processors > 1,
    ),
    Tactic(
        name="all threads, no memory pattern",
        options=lambda _: {"graph_optimization": "all", "intra_op_threads": 0, "bound": True, "mem_pattern": False},
        effort=Effort.THOROUGH,
        reason="one block for all tensors can lie badly in the cache",
    ),
    Tactic(
        name="1 thread, no memory pattern",
        options=lambda _: {
            "graph_optimization": "all",
            "intra_op_threads": 1,
            "allow_spinning": False,
            "mem_pattern": False,
        },
        effort=Effort.THOROUGH,
        reason="the same for small networks",
        applies=_several,
    ),
    Tactic(
        name="all threads, no arena",
        options=lambda _: {"graph_optimization": "all", "intra_op_threads": 0, "bound": True, "arena": False},
        effort=Effort.THOROUGH,
        reason="the system's allocator wins for few and large tensors, and gives memory back",
    ),
)


def candidates(effort: Effort, machine: Machine, variants: Mapping[Variant, object]) -> tuple[Candidate, ...]:
    """The table's lines that make sense here, in its order: by tactic, then by variant, of the variants there are."""
    within = EFFORTS[: EFFORTS.index(effort) + 1]
    forms = [variant for variant, least, _ in VARIANTS if least in within and variant in variants]
    return tuple(
        Candidate(variant=variant, tactic=tactic, options=tactic.options(machine))
        for tactic in TACTICS
        if tactic.effort in within and tactic.applies(machine)
        for variant in forms
    )
