"""What stands around an engine's pods: its Services, the budgets for disruptions, the autoscaler, the route. Pure.

One list says what there is to be; whatever else of these kinds the engine owns is taken away.
"""

import math

from enginewright_operator.api import API_VERSION, InferenceEngine, Strategy, Target, parse_duration
from enginewright_operator.render import names, routing, serving
from enginewright_operator.render.pods import Json
from enginewright_operator.settings import Settings

IN_FLIGHT = "enginewright_requests_in_flight"  # what the server counts; an adapter hands it to the autoscaler


def surroundings(engine: InferenceEngine, settings: Settings, *, weight: int = 0) -> list[Json]:
    """All of it, as it is to be; a canary gets `weight` percent of what comes through Gateways."""
    return [
        serving.service(engine, settings),
        *(
            disruption_budget(engine, target)
            for target in engine.spec.targets
            if _may_have_several_pods(engine, target)
        ),
        *autoscalers(engine),
        *routing.routing(engine, settings, weight=weight),
    ]


def _may_have_several_pods(engine: InferenceEngine, target: Target) -> bool:
    """With one pod a budget of one forbids nothing, and is one object more in a namespace, watched by a controller."""
    return engine.spec.replicas_on(target) > 1 or engine.spec.rollout.strategy is Strategy.CANARY


def disruption_budget(engine: InferenceEngine, target: Target) -> Json:
    """One pod of a target at a time may be moved away, be it the canary's; what is broken stands in nobody's way."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": serving.metadata(engine, names.deployment_name(engine.metadata.name, target.gpu_class)),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": serving.selector(engine, target.gpu_class)},
        },
    }


def autoscalers(engine: InferenceEngine) -> list[Json]:
    """The HorizontalPodAutoscaler, where one is wanted: it scales the engine, whose operator divides the pods."""
    wanted = engine.spec.serving.autoscaling
    if wanted is None:
        return []
    metrics: list[Json] = []
    if wanted.requests_in_flight is not None:
        average = {"type": "AverageValue", "averageValue": str(wanted.requests_in_flight)}
        metrics.append({"type": "Pods", "pods": {"metric": {"name": IN_FLIGHT}, "target": average}})
    if wanted.cpu_percent is not None:
        percent = {"type": "Utilization", "averageUtilization": wanted.cpu_percent}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": percent}})
    window = math.ceil(parse_duration(wanted.scale_down_after))
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": serving.metadata(engine, engine.metadata.name),
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": engine.KIND, "name": engine.metadata.name},
            "minReplicas": wanted.min_replicas,
            "maxReplicas": wanted.max_replicas,
            "metrics": metrics,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": window}},
        },
    }
    return [scaler]
