"""What a tactic gives for a problem: steps over operands, with the constants, cubins and workspace that they need.

Pointers in the steps use Space.OPERAND (name: the operand's number in Problem.operands), Space.CONSTANT (name: a key of
`constants`) and Space.WORKSPACE. Kernel.cubin is a key of `cubins`, CudnnGraph.graph one of `graphs`. Assembling the
program replaces them by arena, blob, input and output pointers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from enginewright_builder.device.problem import Problem
from enginewright_runtime.engine.cuda.program import Step

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Constants = Mapping[
    int, Array
]  # of the problem's inputs that are constants (weights), by operand number, logical shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementation:
    """One way to run one problem. `constants` are made from the problem's constant inputs, packed as the steps want.
    `fetches_later`: each step is a kernel whose last three arguments may name later weights to ask for (later.py), and
    say how the L2 cache keeps those and its own (retention.py)."""

    steps: tuple[Step, ...]
    cubins: Mapping[str, bytes] = field(default_factory=dict)
    graphs: Mapping[str, bytes] = field(default_factory=dict)
    constants: Mapping[str, Callable[[Constants], Array]] = field(default_factory=dict)
    workspace_bytes: int = 0
    fetches_later: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A configuration of a tactic for a problem: `name` is what the timing cache and the report keep, and from the
    problem and the name alone `build` must make the same implementation again. `risky` ones first run in a child
    process (rehearsal/), since their code is not ours; `serial` ones are built one at a time, since they ask a library
    that is not made for several threads; a `last_resort` is tried only where nothing else is right."""

    tactic: str
    name: str
    build: Callable[[], Implementation]
    risky: bool = False
    serial: bool = False
    last_resort: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What tactics may know of the target: compute capability as an integer (90 for 9.0), multiprocessors, L2 and
    shared memory in bytes, and the versions of the libraries there."""

    capability: int
    multiprocessors: int
    l2_bytes: int
    shared_bytes: int
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """For the compiler: sm_90a where the Hopper-only instructions exist, else sm_NN."""
        return f"sm_{self.capability}" + ("a" if self.capability >= 90 else "")

    @property
    def overlaps(self) -> bool:
        """Whether a kernel may start before its predecessor ends (programmatic dependent launch). Elsewhere the wait
        inside the kernel does not exist, and a launch that asks for it would read what is not yet written."""
        return self.capability >= 90


class Tactic(Protocol):
    """A family of candidates. Adding one: a module with such an object, a line in TACTICS, its test."""

    name: str
    reason: str

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """What is worth trying, best guesses first; empty where the tactic does not apply. `constant` numbers the
        inputs whose values are known at build time."""
