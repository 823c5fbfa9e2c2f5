"""Every error a person can meet has a class under EnginewrightError, one sentence, and an outcome.

The sentence says what happened, to which object by name, what was got and what was wanted, and what to do. The
outcome is the typed result that a build Job ends with (its exit code), so that the operator knows whether to retry
without reading text. Standard library only: the plan package raises these.
"""

from typing import ClassVar

from enginewright_runtime.plan.outcome import Outcome


class EnginewrightError(Exception):
    """The root of the tree: `str(error)` is one sentence for a person, `outcome` is for machines."""

    outcome: ClassVar[Outcome] = Outcome.INTERNAL

    @property
    def message(self) -> str:
        """The sentence, without a trailing line break."""
        return str(self).strip()


class UsageError(EnginewrightError):
    """The command line or the request asks for something that cannot be asked for."""

    outcome = Outcome.USAGE


class MissingExtraError(UsageError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, *, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"run pip install 'enginewright[{extra}]' and try again."
        )


class InputError(EnginewrightError):
    """A tensor given to an engine does not fit its binding (name, dtype or shape)."""

    outcome = Outcome.USAGE


class PlanError(EnginewrightError):
    """A plan file cannot be used: damaged, of another version, or not a plan at all."""

    outcome = Outcome.BAD_PLAN


class TargetMismatchError(PlanError):
    """The plan was built for another target than the one it is being loaded on."""

    outcome = Outcome.WRONG_DEVICE


class SignatureError(PlanError):
    """No trusted key signed the plan as it is."""


class GoldenMismatchError(PlanError):
    """The plan's own golden inputs did not give its golden outputs on this machine."""


class ModelError(EnginewrightError):
    """The model file is missing, damaged, or says something its format does not allow."""

    outcome = Outcome.BAD_MODEL


class UnsupportedError(ModelError):
    """The model is valid, but names layers, types or shapes that this builder cannot build."""

    outcome = Outcome.UNSUPPORTED


class GateError(EnginewrightError):
    """The plan was built, but a gate (accuracy, latency or memory) did not let it pass."""

    outcome = Outcome.GATE_FAILED


class StorageError(EnginewrightError):
    """Object storage did not do what was asked; trying again later may help."""

    outcome = Outcome.STORAGE


class StorageDeniedError(StorageError):
    """Object storage refused: wrong credentials, no permission, no such bucket. Trying again will not help."""

    outcome = Outcome.STORAGE_DENIED


class ObjectMissingError(StorageDeniedError):
    """The object that a URI names does not exist."""


class ModelChangedError(EnginewrightError):
    """The model in storage is no longer the one that the recipe names."""

    outcome = Outcome.MODEL_CHANGED
