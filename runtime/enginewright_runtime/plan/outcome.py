"""How a build ends, as a process exit code that both the builder and the operator know.

A Job's podFailurePolicy fails at once on a permanent outcome and retries the others. Codes stay below 126, which
shells and container runtimes use for themselves.
"""

from enum import IntEnum


class Outcome(IntEnum):
    """The exit code of `enginewright build`, and of every other sub-command."""

    DONE = 0
    INTERNAL = 1  # a defect of ours: retried, since it may be the machine's
    USAGE = 2  # the command line
    BAD_MODEL = 10
    UNSUPPORTED = 11
    GATE_FAILED = 12
    WRONG_DEVICE = 13
    BAD_PLAN = 14
    STORAGE_DENIED = 15
    MODEL_CHANGED = 16
    STORAGE = 30
    OUT_OF_MEMORY = 31
    INTERRUPTED = 32

    @property
    def permanent(self) -> bool:
        """Whether the same request would end the same way again."""
        return self in PERMANENT


PERMANENT = (
    Outcome.USAGE,
    Outcome.BAD_MODEL,
    Outcome.UNSUPPORTED,
    Outcome.GATE_FAILED,
    Outcome.WRONG_DEVICE,
    Outcome.BAD_PLAN,
    Outcome.STORAGE_DENIED,
    Outcome.MODEL_CHANGED,
)
