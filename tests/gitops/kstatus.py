"""The rules of kstatus for a custom resource, as sigs.k8s.io/cli-utils/pkg/kstatus/status has them.

A port of checkGenericProperties (deletion, then the generation, then Reconciling and Stalled in the order in which they
stand) and of checkReadyCondition. What neither decides is Current: so an object without a status is, which is the trap.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What kstatus says of an object."""

    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


def compute(manifest: Mapping[str, Any]) -> Status:
    """The status of an object as the API server gives it."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return Status.TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation", 0):
        return Status.IN_PROGRESS
    rows = status.get("conditions") or ()
    for row in rows:
        if (row["type"], row["status"]) == ("Reconciling", "True"):
            return Status.IN_PROGRESS
        if (row["type"], row["status"]) == ("Stalled", "True"):
            return Status.FAILED
    ready = next((row["status"] for row in rows if row["type"] == "Ready"), "True")
    return Status.CURRENT if ready == "True" else Status.IN_PROGRESS
