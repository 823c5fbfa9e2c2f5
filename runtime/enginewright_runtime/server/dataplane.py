"""The models that are served, and inference on them, for every protocol alike.

Engines block, so all but the briefest run on threads of a bounded pool; how many requests may wait for one is bounded
too, because a queue that only grows answers nobody in time. `Dispatcher` is the
seam where requests could be gathered into batches.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import EnginewrightError, UsageError
from enginewright_runtime.plan.manifest import Binding

BRIEF = 0.0003  # seconds: about what a request costs outside the engine, so no other request notices
FADING = 0.95


class ModelMissingError(UsageError):
    """No model of that name or version is served here."""


class OverloadedError(EnginewrightError):
    """As many requests wait as may wait: the caller should come back later, or go to another replica."""


class NotReadyError(EnginewrightError):
    """The server has not yet proved its engines, or it is going away."""


class State(StrEnum):
    """Where the server stands in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An engine under the name and version that callers know. `version` is the start of its plan's digest."""

    name: str
    version: str
    engine: Engine

    @property
    def inputs(self) -> tuple[Binding, ...]:
        """What it takes."""
        return self.engine.inputs

    @property
    def outputs(self) -> tuple[Binding, ...]:
        """What it gives."""
        return self.engine.outputs

    @property
    def facts(self) -> dict[str, Any]:
        """The plan's digest, and what its build came to (layers before and after) where the report tells."""
        return {"digest": self.engine.manifest.digest, **self.engine.manifest.report.get("result", {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Outputs by name, and the seconds that the request waited for a thread and ran on it."""

    outputs: Mapping[str, Any]
    queued: float
    ran: float


class Dispatcher(Protocol):
    """Brings a request to its engine."""

    async def run(self, model: Model, tensors: Mapping[str, Any]) -> Inference:
        """Raises InputError for tensors that do not fit, OverloadedError when too many wait."""

    def close(self) -> None:
        """Let the threads go once they are done."""


class ThreadDispatcher:
    """Each request on a thread of its own, `concurrency` at once, `waiting` more in line.

    Handing a request to a thread and back costs about 0.1 ms, more than a small network's whole run. A model whose
    recent runs were all shorter than `BRIEF` therefore runs where it was asked, as long as that stays true.
    """

    def __init__(self, *, concurrency: int, waiting: int) -> None:
        """A pool of `concurrency` threads."""
        self._pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="inference")
        self._most = concurrency + waiting
        self._accepted = 0
        self._slowest: dict[int, float] = {}

    async def run(self, model: Model, tensors: Mapping[str, Any]) -> Inference:
        """As the protocol says."""
        asked = time.perf_counter()
        slowest = self._slowest.get(id(model), 2 * BRIEF)
        if slowest < BRIEF:
            inference = _infer(model.engine, tensors, asked)
        else:
            inference = await self._on_thread(model, tensors, asked)
        # The slowest run fades, so that one hiccup does not keep a small model on threads for ever.
        self._slowest[id(model)] = max(inference.ran, slowest * FADING)
        return inference

    def close(self) -> None:
        """As the protocol says."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _on_thread(self, model: Model, tensors: Mapping[str, Any], asked: float) -> Inference:
        if self._accepted >= self._most:
            raise OverloadedError(
                f"The server is busy: {self._accepted} requests run or wait, and no more may; try again in a second."
            )
        self._accepted += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, _infer, model.engine, tensors, asked)
        finally:
            self._accepted -= 1


class Dataplane:
    """The served models by name and version, and the state that readiness tells."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Empty and starting."""
        self.state = State.STARTING
        self._dispatcher = dispatcher
        self._models: dict[str, dict[str, Model]] = {}

    def add(self, model: Model) -> None:
        """Serve a model that is proved. Of several versions the last added is the one that a bare name means."""
        self._models.setdefault(model.name, {})[model.version] = model

    def models(self) -> Iterator[Model]:
        """Every model in every version."""
        for versions in self._models.values():
            yield from versions.values()

    def versions(self, name: str) -> list[str]:
        """The versions of a model. Raises ModelMissingError."""
        self.find(name)
        return list(self._models[name])

    def find(self, name: str, version: str = "") -> Model:
        """A model by name, and by version if one is given. Raises ModelMissingError, or NotReadyError at the start."""
        versions = self._models.get(name)
        if versions is None:
            if self.state is State.STARTING:
                raise NotReadyError(f"The server is still loading; ask for the model {name!r} again when it is ready.")
            raise ModelMissingError(f"There is no model {name!r} here; there are: {', '.join(self._models) or 'none'}.")
        if version and version not in versions:
            raise ModelMissingError(f"The model {name!r} has no version {version!r}; it has: {', '.join(versions)}.")
        return versions[version or next(reversed(versions))]

    async def infer(self, model: Model, tensors: Mapping[str, Any]) -> Inference:
        """Run once. Raises InputError for tensors that do not fit, OverloadedError when too many wait."""
        return await self._dispatcher.run(model, tensors)

    def close(self) -> None:
        """Let threads and engines go."""
        self._dispatcher.close()
        for model in self.models():
            model.engine.close()


def _infer(engine: Engine, tensors: Mapping[str, Any], asked: float) -> Inference:
    started = time.perf_counter()
    outputs = engine.infer(tensors)
    return Inference(outputs=outputs, queued=started - asked, ran=time.perf_counter() - started)
