"""What an engine takes: finding the schedule for a set of inputs, and saying in a sentence why there is none.

Arrays are never cast: a silent float64 to float32 hides a caller's mistake, and costs a copy. Python's own numbers and
lists have no dtype, so those become the binding's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from enginewright_runtime.engine.cuda.arrays import foreign
from enginewright_runtime.engine.values import STRING, TEXT, Value, dtype_of, name_of
from enginewright_runtime.errors import InputError, PlanError
from enginewright_runtime.plan.manifest import Binding, Schedule


def exact(binding: Binding) -> bool:
    """Whether dtype and shape alone tell that an array fits: a tensor, not of text, with all dimensions known."""
    known = binding.shape is not None and all(dimension >= 0 for dimension in binding.shape)
    return known and binding.container == "tensor" and binding.dtype != STRING


def merged(schedules: Sequence[Sequence[Binding]]) -> tuple[Binding, ...]:
    """One schedule's bindings for all of them, -1 where dimensions differ. Raises PlanError where names differ."""
    first, *others = schedules
    for other in others:
        if [(b.name, b.dtype, b.container) for b in other] != [(b.name, b.dtype, b.container) for b in first]:
            raise PlanError(
                "The schedules of the plan differ in their bindings' names or dtypes: build the plan again."
            )
    return tuple(_merge(bindings) for bindings in zip(*schedules, strict=True))


def named(given: Any, inputs: Sequence[Binding]) -> dict[str, Any]:
    """A mapping of inputs, from a mapping or from the value of an engine's only input. Raises InputError."""
    if isinstance(given, Mapping):
        return dict(given)
    if len(inputs) != 1:
        names = ", ".join(repr(binding.name) for binding in inputs)
        raise InputError(f"The engine has {len(inputs)} inputs ({names}): give a dict of name to array, not one array.")
    return {inputs[0].name: given}


def fit(given: Mapping[str, Any], schedules: Sequence[Schedule]) -> tuple[int, dict[str, Value]]:
    """The index of the schedule that takes these inputs, and the inputs as it wants them. Raises InputError."""
    inputs = schedules[0].inputs
    names = [binding.name for binding in inputs]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"The engine has no input {unknown[0]!r}; its inputs are {_listed(inputs)}.")
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"The input {missing[0]!r} is missing; the engine's inputs are {_listed(inputs)}.")
    values = {binding.name: convert(given[binding.name], binding) for binding in inputs}
    for index, schedule in enumerate(schedules):
        if all(_takes(binding, values[binding.name]) for binding in schedule.inputs):
            return index, values
    got = ", ".join(f"{name} {list(shape)}" for name, v in values.items() if (shape := _shape_of(v)) is not None)
    there_are = "; ".join(describe(schedule) for schedule in schedules)
    raise InputError(
        f"No schedule of the plan takes these shapes: got {got}, and there are: {there_are}; "
        "give one of those shapes, or build a plan for this one with --shape."
    )


def convert(value: Any, binding: Binding) -> Value:
    """A value as its binding wants it. Raises InputError naming dtype got and wanted."""
    if binding.container != "tensor":
        return value  # type: ignore[no-any-return]
    if binding.dtype == STRING:
        return _text(value, binding)
    wanted = dtype_of(binding.dtype)
    if isinstance(value, bool | int | float | complex | list | tuple):
        return _from_python(value, wanted, binding)
    if foreign(value) is not None:
        return value  # type: ignore[no-any-return]  # its dtype is checked where it is borrowed
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(
            f"The input {binding.name!r} must be a NumPy array of {binding.dtype}, got {type(value).__name__}: "
            "convert it with numpy.asarray."
        )
    array = np.asarray(value)
    if array.dtype != wanted:
        raise InputError(
            f"The input {binding.name!r} must be {binding.dtype}, got {_dtype_in_words(array.dtype)}: "
            f"convert it with .astype({binding.dtype!r})."
        )
    return array


def on_device(values: Mapping[str, Value]) -> str:
    """The first input whose array lies on a GPU; empty where there is none."""
    return next((name for name, value in values.items() if foreign(value) is not None), "")


def describe(schedule: Schedule) -> str:
    """The shapes that a schedule takes, in words."""
    return ", ".join(f"{binding.name} {_shape(binding)}" for binding in schedule.inputs) or "no inputs"


def _from_python(value: Any, wanted: np.dtype[Any], binding: Binding) -> Value:
    try:
        array = np.asarray(value)
        # A list of Python integers is int64 to NumPy and may still be meant for any other dtype of numbers.
        integers = array.dtype.kind in "iub" and wanted.kind not in "bO"
        if array.dtype.kind == "O" or not (integers or np.can_cast(array.dtype, wanted, "same_kind")):
            raise TypeError(f"it reads as {_dtype_in_words(array.dtype)}")
        return np.array(value, dtype=wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"The input {binding.name!r} cannot be read as {binding.dtype}: {error}.") from error


def _text(value: Any, binding: Binding) -> Value:
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return array.astype(TEXT)
    flat = [_decoded(item, binding) for item in array.reshape(-1)] if array.dtype.kind in "OS" else [None]
    if not all(isinstance(item, str) for item in flat):
        raise InputError(
            f"The input {binding.name!r} must be text (str or UTF-8 bytes), got {_dtype_in_words(array.dtype)}."
        )
    texts = np.empty(len(flat), TEXT)
    texts[:] = flat
    return texts.reshape(array.shape)


def _decoded(item: Any, binding: Binding) -> Any:
    try:
        return item.decode() if isinstance(item, bytes) else item
    except UnicodeDecodeError as error:
        raise InputError(f"The input {binding.name!r} holds bytes that are not UTF-8: {error}.") from error


def _takes(binding: Binding, value: Value) -> bool:
    if binding.container != "tensor" or binding.shape is None:
        return True
    shape = _shape_of(value)
    return (
        shape is not None
        and len(shape) == len(binding.shape)
        and all(wanted in (-1, got) for wanted, got in zip(binding.shape, shape, strict=True))
    )


def _shape_of(value: Value) -> tuple[int, ...] | None:
    """An array's shape, wherever it lies; None for what has none."""
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(shape)


def _merge(bindings: Sequence[Binding]) -> Binding:
    first = bindings[0]
    shapes = [binding.shape for binding in bindings if binding.shape is not None]
    shape: tuple[int, ...] | None = None
    if len(shapes) == len(bindings) and len({len(each) for each in shapes}) == 1:
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True))
    return Binding(name=first.name, dtype=first.dtype, shape=shape, container=first.container)


def _listed(inputs: Sequence[Binding]) -> str:
    return ", ".join(f"{binding.name!r} ({binding.dtype} {_shape(binding)})" for binding in inputs) or "none"


def _shape(binding: Binding) -> str:
    return "of any shape" if binding.shape is None else str(list(binding.shape)).replace("-1", "any")


def _dtype_in_words(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "US":
        return "text"
    return f"big-endian {dtype.name}" if not dtype.isnative else name_of(dtype)
