"""Replaying a plan's golden inputs: the proof, on this very machine, that the engine computes what the builder saw."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from enginewright_runtime.engine.executor import Blobs
from enginewright_runtime.engine.values import TEXT, Array, Value, from_bytes
from enginewright_runtime.errors import GoldenMismatchError, PlanError
from enginewright_runtime.plan.manifest import Golden, GoldenTensor

Run = Callable[[Mapping[str, Value]], Mapping[str, Value]]


def replay(goldens: Sequence[Golden], runs: Sequence[Run], blobs: Blobs, *, plan: str) -> None:
    """Run each golden through its schedule. Raises GoldenMismatchError at the first output that does not agree."""
    for index, golden in enumerate(goldens):
        if not 0 <= golden.schedule < len(runs):
            raise PlanError(f"Golden {index} of the plan {plan} names schedule {golden.schedule}, which there is not.")
        inputs = {name: read(tensor, blobs, plan=plan) for name, tensor in golden.inputs.items()}
        outputs = runs[golden.schedule](inputs)
        for name, tensor in golden.outputs.items():
            got = outputs.get(name)
            if not isinstance(got, np.ndarray):
                raise GoldenMismatchError(
                    f"Golden {index} of the plan {plan} has the output {name!r}; the engine has not."
                )
            reason = disagreement(got, read(tensor, blobs, plan=plan), golden.absolute, golden.relative)
            if reason:
                raise GoldenMismatchError(
                    f"The plan {plan} does not give its golden output {name!r} on this machine ({reason}): it must not "
                    "serve here; build it again for this machine."
                )


def read(tensor: GoldenTensor, blobs: Blobs, *, plan: str) -> Array:
    """A tensor that is kept in the plan. Raises PlanError where it does not fit its blob."""
    try:
        return from_bytes(blobs.blob(tensor.blob), tensor.dtype, tensor.shape)
    except ValueError as error:
        raise PlanError(
            f"The golden tensor {tensor.blob!r} of the plan {plan} does not fit its blob: {error}."
        ) from error


def disagreement(got: Array, kept: Array, absolute: float, relative: float) -> str:
    """Why two tensors do not agree, empty where they do: |got - kept| <= absolute + relative * |kept|, NaN as NaN."""
    if got.dtype != kept.dtype or got.shape != kept.shape:
        return f"got {got.dtype.name} {list(got.shape)}, kept {kept.dtype.name} {list(kept.shape)}"
    if got.dtype == TEXT or got.dtype == np.bool_:
        wrong = int(np.count_nonzero(got != kept))
        return f"{wrong} of {got.size} elements differ" if wrong else ""
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    left, right = got.astype(wide), kept.astype(wide)
    # Infinite values agree only with themselves, and NaN with NaN: neither has a difference to measure.
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(left - right)
        near = error <= absolute + relative * np.abs(right)
    wrong_at = ~(same | (near & np.isfinite(right)))
    if not wrong_at.any():
        return ""
    worst = float(np.max(np.nan_to_num(error[wrong_at], nan=np.inf)))
    allowed = f"{absolute:g} + {relative:g} * |kept|"
    return f"{int(wrong_at.sum())} of {got.size} elements differ, by up to {worst:.3g} where {allowed} is allowed"
