"""The names and labels of what the operator makes. Tools and selectors match on them: none is ever renamed."""

import re
from enum import StrEnum
from hashlib import sha256

from enginewright_operator.api import GROUP

MANAGER = "enginewright-operator"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
ENGINE_LABEL = f"{GROUP}/engine"
TRACK_LABEL = f"{GROUP}/track"
GPU_CLASS_LABEL = f"{GROUP}/gpu-class"
PLAN = f"{GROUP}/plan"  # the EnginePlan: a label of its Job, an annotation of the Deployment that serves it
TRACEPARENT = f"{GROUP}/traceparent"  # W3C's, on an EnginePlan; on an InferenceEngine: the trace of whoever applied it
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"  # on a Job: Kueue suspends it until its queue admits it
DIGEST_LABEL = f"{GROUP}/digest"
DIGEST_LABEL_LENGTH = 16
DIGEST_ANNOTATION = f"{GROUP}/plan-digest"
APPLIED = f"{GROUP}/applied"  # an annotation: digest of what a child was last applied from
PLAN_URI_ANNOTATION = f"{GROUP}/plan-uri"
RETRY_ANNOTATION = f"{GROUP}/retry"  # on an engine, by a person: any new value tries a rejected plan again
PROMOTE_ANNOTATION = f"{GROUP}/promote"  # on an engine, by a person: the plan that may pass a pause without a duration

LABEL_LIMIT = 63
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035, what a Service's name must be


class Track(StrEnum):
    """Which of a target's two Deployments: the plan that serves, or the one that is tried beside it."""

    STABLE = "stable"
    CANARY = "canary"


def deployment_name(engine: str, gpu_class: str, track: Track = Track.STABLE) -> str:
    """<engine>-<class> for each target of an engine, and <engine>-<class>-canary while one is tried."""
    return f"{engine}-{gpu_class}" + ("-canary" if track is Track.CANARY else "")


def service_name(engine: str, track: Track | None = None) -> str:
    """The engine's own name, and the track's, where a Service may have that; else one that is made from it."""
    end = f"-{track}" if track else ""
    if _DNS_LABEL.fullmatch(engine + end):
        return engine + end
    mark = "-" + sha256(engine.encode()).hexdigest()[:6] + end
    return f"engine-{engine.replace('.', '-')}"[: LABEL_LIMIT - len(mark)].rstrip("-") + mark


def label(text: str) -> str:
    """`text` as a label's value: itself where it is short enough, else its beginning and a digest of the whole."""
    if len(text) <= LABEL_LIMIT:
        return text
    return f"{text[:54].rstrip('-_.')}-{sha256(text.encode()).hexdigest()[:8]}"


def labels(*, component: str, instance: str) -> dict[str, str]:
    """The labels that Kubernetes recommends."""
    return {
        "app.kubernetes.io/name": "enginewright",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/instance": label(instance),
        MANAGED_BY_LABEL: MANAGER,
    }
