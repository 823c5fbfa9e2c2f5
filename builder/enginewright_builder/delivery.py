"""A finished plan goes to its place once: the first builder wins, whoever comes later succeeds with the first's plan.

A Job that is started again after its pod was lost finds the plan of its former life here, and need not build twice.
Storage that is down when the plan is done is waited for: what was built may have taken an hour.
"""

import itertools
import time
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from typing import Any

from enginewright_runtime.errors import ObjectMissingError, PlanError, StorageDeniedError, StorageError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildRequest, BuildResult, Verdict
from enginewright_runtime.plan.signature import Check
from enginewright_runtime.storage import open as stores
from enginewright_runtime.storage import uris

PATIENCE = 600.0  # seconds that a finished plan waits for its store, beyond the store's own retries
FIRST_WAIT, LONGEST_WAIT = 2.0, 60.0


def already_there(request: BuildRequest, workdir: Path, *, check: Check | None = None) -> BuildResult | None:
    """The result of the plan that lies at the destination, if it is whole and of this very recipe; else None.

    With `check` it must also be signed by us: who can write to the bucket could have put it there.
    """
    store = stores.open_store(request.destination, request.storage)
    try:
        store.head(request.destination)
    except ObjectMissingError:
        return None
    path = workdir / "stored.plan"
    try:
        store.download(request.destination, path)
        with PlanFile(path, check=check) as plan:
            plan.verify()
            if plan.manifest.digest != request.recipe.digest:
                return None
            report = plan.manifest.report
    except (PlanError, ObjectMissingError):
        return None
    return _result(report, path, request)


def deliver(
    path: Path,
    request: BuildRequest,
    workdir: Path,
    *,
    overwrite: bool,
    check: Check | None = None,
    step: Callable[[str], None],
    wait: Callable[[float], None] = time.sleep,
) -> BuildResult | None:
    """Store the plan. None if it is there now; the other's result where somebody else was first.

    `step` hears of each try that failed and may succeed later. Raises StorageError where it did not within PATIENCE.
    """
    waited = 0.0
    for attempt in itertools.count():
        try:
            return _store(path, request, workdir, overwrite=overwrite, check=check)
        except StorageDeniedError:
            raise
        except StorageError as error:
            if uris.scheme(request.destination) == "file" or waited >= PATIENCE:
                raise  # a folder of this machine does not come back by itself
            seconds = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
            step(f"{error.message} The next try is in {seconds:g} s.")
            wait(seconds)
            waited += seconds
    raise AssertionError("the loop returns or raises")


def _store(
    path: Path, request: BuildRequest, workdir: Path, *, overwrite: bool, check: Check | None
) -> BuildResult | None:
    store = stores.open_store(request.destination, request.storage)
    if store.upload(path, request.destination, overwrite=overwrite):
        return None
    first = already_there(request, workdir, check=check)
    if first is None:
        # What lies there is damaged, of another recipe, or not signed by us: nobody can use it under this name.
        store.upload(path, request.destination, overwrite=True)
    return first


def fingerprint(path: Path) -> tuple[int, str]:
    """Bytes and sha256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, file_digest(file, "sha256").hexdigest()


def _result(report: Any, path: Path, request: BuildRequest) -> BuildResult:
    size, digest = fingerprint(path)
    told = report.get("result", {})
    return BuildResult(
        outcome=Outcome.DONE.name,
        message=f"Another build of this recipe was first: its plan stands at {request.destination}, and is used.",
        digest=request.recipe.digest,
        plan_bytes=size,
        plan_sha256=digest,
        layers_before=int(told.get("layers_before", 0)),
        layers_after=int(told.get("layers_after", 0)),
        latency_ms={str(name): float(value) for name, value in told.get("latency_ms", {}).items()},
        gates=tuple(records.from_json(Verdict, each, what="gate") for each in report.get("gates", [])),
    )
