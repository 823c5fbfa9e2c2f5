"""`enginewright up`: everything of a manifest on this machine, from the model to a server that answers."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from enginewright_operator import api
from enginewright_operator.errors import ManifestError
from enginewright_operator.local import hardware, interrupts, manifests, orders, ports, processes
from enginewright_operator.local.manifests import Manifests
from enginewright_operator.local.orders import Order
from enginewright_operator.local.processes import LocalProcessError, PortTakenError, Server
from enginewright_operator.render import build_job, serving
from enginewright_operator.settings import Settings
from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.request import BuildResult

USUAL_PORT = 8000
PORTS_TRIED = 3  # where any will do, and others take each between our look and our server's
COMMAND_NOT_FOUND = 127  # what shells give
KILLED_BY_SIGNAL = 128  # and the signal's number on top


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The command line's options. `port` is None where any will do."""

    file: Path
    storage: Path
    port: int | None
    fresh: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One target that answers. `result` is None where the plan was there already."""

    order: Order
    result: BuildResult | None
    server: Server

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "gpuClass": self.order.target.gpu_class,
            "url": self.server.url,
            "digest": self.order.digest,
            "planURI": self.order.plan.spec.plan_uri,
            "built": self.result is not None,
            "why": self.order.why if self.result else "",
            "result": records.to_json(self.result) if self.result else None,
        }


class Up:
    """Everything that runs. Use it in a `with`: what it started ends there, however that is left."""

    def __init__(self, wishes: Wishes, console: Console) -> None:
        self._wishes = wishes
        self._say = console
        self._stack = ExitStack()
        self.manifests: Manifests = manifests.read(wishes.file)
        self.served: list[Served] = []

    def __enter__(self) -> "Up":
        self._stack.enter_context(interrupts.sigterm_as_interrupt())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def model(self) -> str:
        """The name that the model is served under."""
        return self.manifests.engine.metadata.name

    def start(self) -> None:
        """Build what is not there and serve all targets that this machine has. Raises EnginewrightError and its kin."""
        scratch = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="enginewright-up-")))
        storage = orders.local_storage(self.manifests, self._wishes.storage)
        for number, target in enumerate(self._targets()):
            wanted = None if self._wishes.port is None else self._wishes.port + number
            ports.free_port(wanted, usual=USUAL_PORT)  # one that cannot be had is refused before a build, not after
            self._serve(target, storage, scratch / str(number), wanted, USUAL_PORT + number)

    def to_json(self) -> dict[str, Any]:
        """What runs now."""
        return {
            "model": self.model,
            "url": self.served[0].server.url,
            "targets": [one.to_json() for one in self.served],
        }

    def run(self, command: Sequence[str], *, to_stderr: bool) -> int:
        """Run a command with ENGINEWRIGHT_URL and ENGINEWRIGHT_MODEL set; returns its exit code as a shell would."""
        first = self.served[0].server
        environment = os.environ | {"ENGINEWRIGHT_URL": first.url, "ENGINEWRIGHT_MODEL": self.model}
        self._say.print(f"Running {' '.join(command)}\n", markup=False, highlight=False, soft_wrap=True)
        with ExitStack() as ends:
            try:
                with interrupts.held():
                    process = subprocess.Popen(command, env=environment, stdout=sys.stderr if to_stderr else None)
                    ends.callback(processes.end, process, grace=5)
            except OSError as error:
                self._say.print(f"{command[0]!r} cannot be started: {error.strerror}.", markup=False, highlight=False)
                return COMMAND_NOT_FOUND
            code = processes.wait(process)
        return code if code >= 0 else KILLED_BY_SIGNAL - code

    def wait(self, announce: Callable[[], None]) -> int:
        """Announce, then wait for Ctrl-C, SIGTERM, or the end of a server, which is an error. Returns 0.

        Whoever has read the announcement may send a signal at once: it must find us waiting, not on the way there.
        """
        try:
            announce()
            self._say.print("Ctrl-C ends it.", highlight=False)
            while True:
                for one in self.served:
                    if (code := processes.ended(one.server.process)) is not None:
                        name = one.order.target.gpu_class
                        raise LocalProcessError(f"The server of {name} ended with exit code {code}.")
                time.sleep(0.1)
        except KeyboardInterrupt:
            self._say.print("\nDraining.", highlight=False)
            return 0

    def _targets(self) -> list[api.Target]:
        """The targets that are this machine, the others skipped with a sentence. Raises ManifestError if none is."""
        found, here, skipped = hardware.products(), [], []
        for target in self.manifests.engine.spec.targets:
            gpu_class = self.manifests.gpu_classes.get(target.gpu_class)
            if gpu_class is None:
                reason = f"there is no GPUClass of that name in {self.manifests.path}, and this machine is only a cpu"
            else:
                reason = hardware.why_not(gpu_class, found)
            if reason:
                skipped.append(f"{target.gpu_class}: {reason}")
                self._line("yellow", "skipped", f"{target.gpu_class}: {reason}.")
            else:
                here.append(target)
        if not here:
            raise ManifestError(
                f"None of the targets of {self.model!r} can run on this machine ({'; '.join(skipped)}): add the target "
                "{gpuClass: cpu}, or run this where the GPU is."
            )
        return here

    def _serve(self, target: api.Target, storage: api.Storage, folder: Path, wanted: int | None, usual: int) -> None:
        held = hardware.product_here(self.manifests.gpu_classes[target.gpu_class], hardware.products())
        ordered = orders.order(self.manifests, target, storage, notes=self._wishes.storage.expanduser(), held=held)
        result = None if ordered.exists and not self._wishes.fresh else self._build(ordered, folder / "build")
        if result is None:
            self._line("green", "found", f"the plan {ordered.digest[:16]} for {target.gpu_class}: nothing to build")
        orders.note_built(self.manifests, ordered, notes=self._wishes.storage.expanduser())
        if (replicas := self.manifests.engine.spec.replicas_on(target)) > 1:
            self._line("cyan", "note", f"{replicas} replicas are asked for; one process is enough here")
        try:
            server = self._start_server(ordered, storage, folder, wanted, usual)
        except LocalProcessError as error:
            hint = "" if result else " The plan was there already: --fresh builds it anew."
            raise LocalProcessError(error.message + hint) from error
        self.served.append(Served(order=ordered, result=result, server=server))
        self._line("green", "serving", f"{self.model} at {server.url}")

    def _start_server(
        self, ordered: Order, storage: api.Storage, folder: Path, wanted: int | None, usual: int
    ) -> Server:
        """On the port that is wanted, or else on one that is free: another, where it is taken before we have it."""
        for attempt in range(PORTS_TRIED):
            port = ports.free_port(wanted, usual=usual)
            deployment = serving.deployment(
                self.manifests.engine,
                ordered.target,
                ordered.plan.spec.plan_uri,
                ordered.digest,
                ordered.gpu_class,
                _settings(port),
                storage=storage,
            )
            self._line(
                "cyan", "starting", f"{deployment['metadata']['name']}: load, replay the golden inputs, be ready"
            )
            pod_folder = folder / f"serve-{attempt}"
            pod_folder.mkdir(parents=True)
            try:
                return processes.start_server(deployment, pod_folder, self.manifests, self._stack)
            except PortTakenError as error:
                if wanted is not None:
                    raise ports.refusal(wanted, os.strerror(errno.EADDRINUSE)) from error
                self._line("yellow", "taken", f"another process was faster and listens on port {port}")
        raise UsageError(
            f"Other processes took the server's port {PORTS_TRIED} times before it listened: give one with --port."
        )

    def _build(self, ordered: Order, folder: Path) -> BuildResult:
        why = "It was asked for anew (--fresh)." if ordered.exists else ordered.why
        self._line("cyan", "building", f"the plan {ordered.digest[:16]} for {ordered.target.gpu_class}. {why}")
        if ordered.exists:
            orders.forget(self.manifests, ordered)
        folder.mkdir(parents=True)
        job = build_job.build_job(ordered.plan, ordered.request, ordered.gpu_class, _settings(USUAL_PORT))
        result = processes.run_job(job, folder, self.manifests)
        layers = f"{result.layers_before} layers became {result.layers_after}, in {result.seconds:.1f} s"
        self._line("green", "built", f"{ordered.plan.spec.plan_uri}: {layers}")
        return result

    def _line(self, colour: str, word: str, rest: str) -> None:
        self._say.print(f"[{colour}]{word:>9}[/]  ", end="", highlight=False)
        self._say.print(rest, markup=False, highlight=False, soft_wrap=True)


def _settings(port: int) -> Settings:
    return Settings(allow_file_uris=True, allow_plugins=True, serving_port=port, drain_delay=0)
