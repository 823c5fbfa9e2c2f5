"""How far a Deployment is with what it was last told. Pure; the words of a stuck one come from Kubernetes itself."""

from typing import Any

from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names
from enginewright_operator.rollout.weights import Pods


def served_by(deployment: Manifest | None) -> str:
    """The name of the EnginePlan that a Deployment serves; empty where there is none."""
    return str((((deployment or {}).get("metadata") or {}).get("annotations") or {}).get(names.PLAN, ""))


def pods(deployment: Manifest | None) -> Pods:
    """How many pods a Deployment was told to have, has, and has ready."""
    if deployment is None:
        return Pods()
    status = deployment.get("status") or {}
    return Pods(
        wanted=int(deployment["spec"].get("replicas", 1)),
        there=int(status.get("replicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
    )


_QUOTA = "exceeded quota"


def finished(deployment: Manifest | None) -> bool:
    """Whether every pod is one of the new ones, is available, and no old one is left."""
    if deployment is None:
        return False
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return bool(
        _current(deployment)
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
    )


def stuck(deployment: Manifest | None) -> str:
    """Kubernetes' own words where a rollout has got no further within its deadline; empty where it is well.

    One that waits for room in the namespace's quota is well: it is not the plan's fault, and goes on by itself.
    """
    if deployment is None or not _current(deployment):
        return ""
    row, refused = _condition(deployment["status"], "Progressing", "False"), _refusal(deployment)
    if row is None or _QUOTA in refused:
        return ""
    return refused or str(row.get("message", "no reason given"))


def verdict(deployment: Manifest | None, *, replicas: int, plan: str) -> Verdict:
    """What to say of a target whose plan is built."""
    if deployment is None:
        return Verdict(state=State.WORKING, reason=Reason.ROLLING_OUT, message=f"The pods of {plan} are being made.")
    name = deployment["metadata"]["name"]
    if finished(deployment):
        if replicas == 0:
            return Verdict(state=State.READY, reason=Reason.IDLE, message=f"{plan} is built; no replicas are wanted.")
        pods = "1 pod serves" if replicas == 1 else f"{replicas} pods serve"
        return Verdict(state=State.READY, reason=Reason.SERVING, message=f"{pods} {plan}.")
    status = deployment.get("status") or {}
    if why := stuck(deployment):
        return Verdict(
            state=State.STALLED,
            reason=Reason.ROLLOUT_STUCK,
            message=f"The Deployment {name} does not get on with {plan}: {why} "
            f"(`kubectl describe pods -l app.kubernetes.io/managed-by=enginewright-operator` says more).",
        )
    refused = _refusal(deployment)
    if refused:
        reason = Reason.QUOTA_EXCEEDED if _QUOTA in refused else Reason.ROLLING_OUT
        message = f"The Deployment {name} cannot make its pods: {refused}"
        return Verdict(state=State.WORKING, reason=reason, message=message)
    updated = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)) if _current(deployment) else 0
    return Verdict(
        state=State.WORKING,
        reason=Reason.ROLLING_OUT,
        message=f"{updated} of {replicas} pods serve {plan}; the others are on their way.",
    )


def _current(deployment: Manifest) -> bool:
    """Whether the status is of what the Deployment was last told."""
    seen = (deployment.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= deployment["metadata"].get("generation", 0))


def _refusal(deployment: Manifest) -> str:
    """Why pods could not be made, in the API server's words; empty where they could."""
    row = _condition(deployment.get("status") or {}, "ReplicaFailure", "True") if _current(deployment) else None
    return str((row or {}).get("message", ""))


def _condition(status: Manifest, kind: str, wanted: str) -> dict[str, Any] | None:
    rows = status.get("conditions") or ()
    return next((row for row in rows if row["type"] == kind and row["status"] == wanted), None)
