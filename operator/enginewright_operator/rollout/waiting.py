"""Why pods do not come up, in one sentence: the words of the scheduler, the kubelet or the program itself."""

from collections.abc import Sequence
from typing import Any

from enginewright_operator.kube import Manifest


def why_not_ready(pods: Sequence[Manifest]) -> str:
    """What keeps the first pod that is not ready from being so; empty where all are, or where there is none."""
    return next((why for why in map(_why, pods) if why), "")


def _why(pod: Manifest) -> str:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    conditions = {row["type"]: row for row in status.get("conditions") or ()}
    if (conditions.get("Ready") or {}).get("status") == "True":
        return ""
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return f"the pod {name} finds no node: {_sentence(scheduled.get('message', ''))}"
    for container in status.get("containerStatuses") or ():
        if ended := _ended(container):
            said = _sentence(ended.get("message", "")) or f"{ended.get('reason', 'no reason given')}."
            return f"the pod {name} ended with exit code {ended.get('exitCode')}: {said}"
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            said = ": ".join(part for part in (waiting.get("reason", ""), waiting.get("message", "")) if part)
            return f"the pod {name} cannot start: {_sentence(said)}"
    return f"the pod {name} does not get ready."


def _ended(container: dict[str, Any]) -> dict[str, Any] | None:
    """How a container ended: now, or the time before this one."""
    states = (container.get("state") or {}, container.get("lastState") or {})
    return next((state["terminated"] for state in states if state.get("terminated")), None)


def _sentence(text: str) -> str:
    """The last line of what was said: a program's own error is the end of its log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1][:600].rstrip(".") + ".") if lines else ""
