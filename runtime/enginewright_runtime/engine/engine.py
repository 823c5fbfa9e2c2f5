"""The public face: a plan loaded on this machine.

engine = Engine("resnet50.plan")
probabilities = engine.infer(images)["probabilities"]
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from enginewright_runtime.engine import available, bindings, loader, replay
from enginewright_runtime.engine.context import Context
from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.engine.values import Value, dtype_of
from enginewright_runtime.errors import InputError, PlanError, UsageError
from enginewright_runtime.plan.manifest import Binding, Manifest
from enginewright_runtime.plan.signature import Check

Postprocessor = Callable[[Any], Any]


class Engine:
    """A plan, ready to run. `infer` may be called from several threads at once."""

    manifest: Manifest
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]

    def __init__(
        self,
        plan: Path | str | None = None,
        *,
        PLAN: Path | str | None = None,  # the keyword of TensorRT's Python Engine
        postprocessors: Mapping[str, Postprocessor] | None = None,
        threads: int | None = None,
        contexts: int = 1,
        check: Check | None = None,
        allow_plugins: bool = False,
    ) -> None:
        """Load `plan`: target checked, every blob verified.

        `postprocessors` maps an output's name to a function of its value; what it returns stands in the result
        instead. `threads` caps what one inference may use (default: all processors that this process may).
        `contexts` is how many inferences may be on a GPU at once, each with an arena of its own. `check` judges the
        plan's signatures before anything in it is used (`signing.trust(…).check`); without it they are not looked at.
        `allow_plugins` lets Python that the plan carries run in this process: for plans that you trust.
        Raises PlanError, TargetMismatchError, or InputError for a postprocessor of an output that there is not.
        """
        path = plan if plan is not None else PLAN
        if path is None or (plan is not None and PLAN is not None):
            raise UsageError('Engine takes one plan: Engine("x.plan") or Engine(PLAN="x.plan").')
        if threads is not None and threads < 1:
            raise UsageError(f"Engine takes threads of 1 or more, got {threads}.")
        if contexts < 1:
            raise UsageError(f"Engine takes contexts of 1 or more, got {contexts}.")
        self.path = Path(path)
        most, cores = available.processors(), available.cores()
        limits = Limits(threads=min(threads or most, most), cores=cores, contexts=contexts, plugins=allow_plugins)
        self._loaded = loader.Loaded(self.path, limits, check=check)
        self.manifest = self._loaded.manifest
        self._schedules = self.manifest.schedules
        if not self._schedules:
            raise PlanError(f"The plan {self.path} has no schedule: build it again.")
        self.inputs = bindings.merged([schedule.inputs for schedule in self._schedules])
        self.outputs = bindings.merged([schedule.outputs for schedule in self._schedules])
        self._postprocessors = self._checked(postprocessors or {})
        self._runs = [context.run for context in self._loaded.contexts]
        self._wanted = [(binding.name, dtype_of(binding.dtype)) for binding in self.inputs]
        self._by_shape = {
            tuple(binding.shape or () for binding in schedule.inputs): run
            for schedule, run in zip(reversed(self._schedules), reversed(self._runs), strict=True)
            if all(bindings.exact(binding) for binding in schedule.inputs)
        }

    def infer(self, tensors: Mapping[str, Any] | Any) -> dict[str, Any]:
        """Run once: `tensors` maps input names to arrays, or is the array of the only input.

        Where a GPU runs the whole plan, inputs may also be arrays on that GPU (DLPack or CUDA's array interface).
        Returns every output by name, as NumPy arrays. Raises InputError for a name, dtype or shape that does not fit.
        """
        given = tensors if type(tensors) is dict else bindings.named(tensors, self.inputs)
        # The way of every ordinary call: shapes to schedule by one look-up. Whatever does not fit goes the slow way,
        # which converts it or says what is wrong.
        shapes = []
        for name, dtype in self._wanted:
            value = given.get(name)
            if type(value) is not np.ndarray or value.dtype != dtype:
                break
            shapes.append(value.shape)
        run = self._by_shape.get(tuple(shapes))
        if run is None or len(given) != len(shapes) or len(shapes) != len(self._wanted):
            run, given = self._slowly(given)
        outputs: dict[str, Any] = run(given)
        for name, postprocess in self._postprocessors.items():
            outputs[name] = postprocess(outputs[name])
        return outputs

    def infer_on_device(self, tensors: Mapping[str, Any] | Any) -> dict[str, Any]:
        """Run once and leave the outputs on the GPU: arrays that speak DLPack and CUDA's array interface, not copied.

        They are valid until the next run in the same context (with `contexts=1`: of the same shapes). Nothing is
        waited for: whoever reads through either protocol waits on the device. Postprocessors are not called. Raises
        InputError as `infer` does, and UsageError where not the whole plan runs on a GPU.
        """
        context, values = self._found(bindings.named(tensors, self.inputs))
        if context.run_device is None:
            raise UsageError(
                f"The plan {self.path} does not run on a GPU as a whole: use infer, which gives NumPy arrays."
            )
        return dict(context.run_device(values))

    def reserve(self, schedule: int = 0) -> Any:
        """A context of a schedule for one caller alone, with inputs and outputs on the GPU that are never copied.

        See engine/cuda/reservation.py. Close it before the engine. Raises UsageError where not the whole plan runs on
        a GPU, or there is no such schedule.
        """
        if not 0 <= schedule < len(self._runs):
            raise UsageError(
                f"The plan {self.path} has no schedule {schedule}: it has {len(self._runs)}, counted from 0."
            )
        make = self._loaded.contexts[schedule].reserve
        if make is None:
            raise UsageError(
                f"The plan {self.path} does not run on a GPU as a whole: use infer, which gives NumPy arrays."
            )
        return make()

    def replay_goldens(self) -> None:
        """Run the plan's golden inputs. Raises GoldenMismatchError where they do not give the golden outputs."""
        replay.replay(self.manifest.goldens, self._runs, self._loaded.blobs, plan=str(self.path))

    def close(self) -> None:
        """Let go of the plan; runs in progress end well, later ones are refused."""
        self._runs = []
        self._by_shape = {}
        self._loaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _slowly(self, given: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Value]], dict[str, Value]], Any]:
        context, values = self._found(given)
        if context.run_device is None and (name := bindings.on_device(values)):
            raise InputError(
                f"The input {name!r} lies on a GPU, and not all of the plan {self.path} runs there: give a NumPy array."
            )
        return context.run, values

    def _found(self, given: Mapping[str, Any]) -> tuple[Context, dict[str, Value]]:
        if not self._runs:
            raise UsageError(f"The engine of the plan {self.path} is closed: load the plan again.")
        index, values = bindings.fit(given, self._schedules)
        return self._loaded.contexts[index], values

    def _checked(self, postprocessors: Mapping[str, Postprocessor]) -> dict[str, Postprocessor]:
        names = [binding.name for binding in self.outputs]
        for name in postprocessors:
            if name not in names:
                raise InputError(f"There is no output {name!r} to postprocess; the outputs are {', '.join(names)}.")
        return dict(postprocessors)
