"""Runs a segment with plugins in it on the CPU: parts of ONNX through ONNX Runtime, plugins by their NumPy references.

The segment's blob is a list of parts; a plugin's part names the blob of its module's source. That source is Python and
runs in this process, so such a segment is refused unless the limits allow it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from enginewright_runtime.engine.executor import Blobs, ExecutionError, Executor, Limits
from enginewright_runtime.engine.host import HostExecutor
from enginewright_runtime.engine.host_options import Weight
from enginewright_runtime.engine.values import Array, Value, from_bytes
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Segment
from enginewright_runtime.plugins import loading
from enginewright_runtime.plugins.definition import Plugin, PluginError


class PluginsNotAllowedError(PlanError):
    """A plan carries code of its own, and nobody said that it may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """ONNX in `blob` with its `weights`; or, where it is named, a `plugin` whose module's source is in `blob`.

    A plugin's `weights` are those of its inputs that are constants.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blob: str
    weights: Mapping[str, Weight] = field(default_factory=dict)
    plugin: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A segment's parts in the order in which they run."""

    parts: tuple[Part, ...]


class PluginExecutor:
    """One executor a part. Safe to run from several threads as far as the plugins are."""

    def __init__(self, segment: Segment, blobs: Blobs, limits: Limits) -> None:
        """Raises PluginsNotAllowedError before anything is loaded, and PlanError."""
        what = f"The segment {segment.blob!r}"
        read = records.parse(bytes(blobs.blob(segment.blob)), what=what)
        parts = records.from_json(Parts, read, what=what).parts
        if not limits.plugins:
            names = ", ".join(sorted({part.plugin for part in parts if part.plugin}))
            raise PluginsNotAllowedError(
                f"The plan carries code of its own ({names}), which runs only where that is allowed: if you trust "
                "it, load it with Engine(…, allow_plugins=True), or run the command with --allow-plugins."
            )
        _require_wired(segment, parts, what)
        options = {name: value for name, value in segment.options.items() if name != "blobs"}
        self._outputs = segment.outputs
        self._parts = [(part, _executor(part, options, blobs, limits)) for part in parts]

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Outputs by name. Raises ExecutionError where a plugin fails or gives what its rule does not say."""
        values = dict(tensors)
        for part, executor in self._parts:
            values |= executor.run({name: values[name] for name in part.inputs if name not in part.weights})
        return {name: values[name] for name in self._outputs}

    def close(self) -> None:
        """Close the parts."""
        for _, executor in self._parts:
            executor.close()


class _Reference:
    """A plugin with its constants and attributes."""

    def __init__(self, part: Part, blobs: Blobs) -> None:
        self._part = part
        self._plugin: Plugin = _plugin(part, blobs)
        self._attributes = self._plugin.complete(part.attributes)
        self._constants: dict[str, Array] = {
            name: _constant(name, weight, blobs) for name, weight in part.weights.items()
        }

    def run(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        given = {**self._constants, **tensors}
        try:
            made = self._plugin.run([np.asarray(given[name]) for name in self._part.inputs], self._attributes)
        except PluginError as error:
            raise ExecutionError(error.message) from error
        if len(made) != len(self._part.outputs):
            raise ExecutionError(
                f"The plugin {self._part.plugin} gives {len(made)} outputs, and the plan has {len(self._part.outputs)}."
            )
        return dict(zip(self._part.outputs, made, strict=True))

    def close(self) -> None:
        """Nothing is held."""


def _require_wired(segment: Segment, parts: Sequence[Part], what: str) -> None:
    """Raises PlanError where a part takes what none before it gives."""
    known = set(segment.inputs)
    for part in parts:
        missing = [name for name in part.inputs if name not in known and name not in part.weights]
        if missing:
            raise PlanError(f"{what} has a part that takes {missing[0]!r}, which none before it gives: build it again.")
        known.update(part.outputs)
    if not known.issuperset(segment.outputs):
        raise PlanError(f"{what} gives {sorted(known)}, and the manifest says {list(segment.outputs)}: build it again.")


def _constant(name: str, weight: Weight, blobs: Blobs) -> Array:
    try:
        return from_bytes(blobs.blob(weight.blob), weight.dtype, weight.shape)
    except ValueError as error:
        raise PlanError(f"The constant {name!r} does not fit its blob {weight.blob!r}: {error}.") from error


def _executor(part: Part, options: Mapping[str, Any], blobs: Blobs, limits: Limits) -> Executor:
    if part.plugin:
        return _Reference(part, blobs)
    weights = {"weights": records.to_json(part.weights)} if part.weights else {}
    inner = Segment(
        executor="host", inputs=part.inputs, outputs=part.outputs, blob=part.blob, options={**options, **weights}
    )
    return HostExecutor(inner, blobs, limits)


def _plugin(part: Part, blobs: Blobs) -> Plugin:
    what = f"The plugin module {part.blob!r} of the plan"
    found = loading.load(bytes(blobs.blob(part.blob)), what)
    if part.plugin not in found:
        raise PlanError(f"{what} defines {', '.join(found)}, and not {part.plugin}: build the plan again.")
    return found[part.plugin]
