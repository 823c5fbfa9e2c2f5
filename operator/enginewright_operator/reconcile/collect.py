"""A deleted EnginePlan: its build ends, its files go, then the object itself. It never waits for ever."""

import logging

from enginewright_operator import api, stamps
from enginewright_operator.conditions import Reason
from enginewright_operator.gather import FinalizeInput
from enginewright_operator.reconcile.scope import DONE, Again, Scope
from enginewright_runtime.errors import ObjectMissingError, StorageError, UsageError

logger = logging.getLogger(__name__)

PATIENCE = 120.0  # seconds that storage may be out of reach before the files are left where they are
STILL_USED = Again(seconds=2.0)


async def reconcile(plan: api.EnginePlan, scope: Scope) -> Again:
    """One step towards the plan's end."""
    if api.FINALIZER not in plan.metadata.finalizers:
        return DONE
    inp = await scope.gatherer.finalize(plan)
    if inp.users:
        return STILL_USED  # pods that start now would not find it
    if inp.job is not None:
        if not inp.job["metadata"].get("deletionTimestamp"):
            # A build that ends after the files were deleted would leave one behind.
            await scope.cluster.delete("Job", plan.metadata.namespace, plan.metadata.name, foreground=True)
        return Again(seconds=0.5)
    return await _delete_files(inp, scope)


async def _delete_files(inp: FinalizeInput, scope: Scope) -> Again:
    plan = inp.plan
    folder = _folder(plan)
    if folder and not inp.sharers:
        try:
            if inp.access is None:
                raise StorageError(f"The Secret {plan.spec.storage.credentials_secret} is gone")
            count = await scope.stores.delete_folder(folder, inp.access)
            logger.info("Deleted %d files of the EnginePlan %s.", count, plan.metadata.name)
        except ObjectMissingError:
            logger.info("The EnginePlan %s had no files left.", plan.metadata.name)
        except (StorageError, UsageError) as error:
            if (left := PATIENCE - _waited(plan, scope)) > 0:
                logger.warning("The files of the EnginePlan %s stay for now: %s", plan.metadata.name, error.message)
                return Again(failed=True, seconds=left)
            message = f"The files under {folder} could not be deleted and were left there: {error.message}"
            logger.error("The EnginePlan %s: %s", plan.metadata.name, message)
            await scope.cluster.event(plan, Reason.FILES_LEFT, message, warning=True)
    await scope.cluster.let_go(plan)
    return DONE


def _folder(plan: api.EnginePlan) -> str:
    """The plan's own folder; empty where its URI names another place, which is then left alone."""
    folder = f"{plan.spec.storage.uri.rstrip('/')}/plans/{plan.metadata.namespace}/{plan.spec.digest}/"
    return folder if plan.spec.plan_uri.startswith(folder) else ""


def _waited(plan: api.EnginePlan, scope: Scope) -> float:
    stamp = plan.metadata.deletion_timestamp
    return stamps.since(stamp, scope.now()) if stamp else 0.0
