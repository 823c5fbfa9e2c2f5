"""The pods that answer: what each is given, how many there are, and how requests come to them."""

from typing import Annotated

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import Strict, validations
from enginewright_operator.api.quantities import Duration
from enginewright_operator.api.resources import Resources
from enginewright_operator.api.storage import ObjectName


class Autoscaling(Strict):
    """A HorizontalPodAutoscaler that writes the engine's spec.replicas."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "self.minReplicas <= self.maxReplicas",
                "serving.autoscaling.minReplicas may not be more than maxReplicas",
            ),
            (
                "has(self.requestsInFlight) || has(self.cpuPercent)",
                "serving.autoscaling needs something to go by: requestsInFlight or cpuPercent",
            ),
        )
    )

    min_replicas: int = Field(default=1, ge=1, le=1000, description="The fewest pods.")
    max_replicas: int = Field(ge=1, le=1000, description="The most pods.")
    requests_in_flight: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="So many requests may be under way in one pod on average. Needs an adapter that hands the server's "
        "enginewright_requests_in_flight to the custom metrics API.",
    )
    cpu_percent: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="So much of the reserved CPU may be in use on average, in percent. Needs metrics-server.",
    )
    scale_down_after: Duration = Field(default="5m", description="How long fewer must do before a pod goes.")


class ParentRef(Strict):
    """A Gateway that takes requests for the engine."""

    name: ObjectName = Field(description="The Gateway.")
    namespace: ObjectName | None = Field(default=None, description="Where it is; by default beside the engine.")
    section_name: ObjectName | None = Field(default=None, description="The listener; by default every one.")


class Route(Strict):
    """An HTTPRoute of the Gateway API, whose weights are exact where numbers of pods are coarse."""

    parent_refs: Annotated[tuple[ParentRef, ...], Field(min_length=1, max_length=8)] = Field(
        description="The Gateways that take the requests."
    )
    hostnames: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=253)], ...], Field(max_length=16)] = Field(
        default=(), description="Host names that requests must have; by default any."
    )


class Serving(Strict):
    """The pods that answer."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!has(self.autoscaling) || !has(self.autoscaling.cpuPercent) || (has(self.resources) "
                "&& has(self.resources.requests) && 'cpu' in self.resources.requests)",
                "serving.autoscaling.cpuPercent is a share of what is reserved: set serving.resources.requests.cpu",
            ),
        )
    )

    resources: Resources | None = Field(default=None, description="Requests and limits of each serving pod.")
    autoscaling: Autoscaling | None = Field(
        default=None, description="Let a HorizontalPodAutoscaler choose the number of pods; it needs a single target."
    )
    route: Route | None = Field(
        default=None,
        description="Take requests through Gateways, too, and give a canary its share there. Needs the Gateway API.",
    )
