"""Gates: what a plan must prove before it may serve."""

from typing import Annotated

from pydantic import Field

from enginewright_operator.api.base import Strict
from enginewright_operator.api.quantities import Duration, Quantity
from enginewright_operator.api.storage import Uri, uri_rules
from enginewright_runtime.plan.recipe import Metric


class AccuracyGate(Strict):
    """How much accuracy a plan may lose against the model itself."""

    data: Uri = Field(
        description="An .npz file: one array for each input, its first dimension the sample, and optionally labels.",
        json_schema_extra=uri_rules("gates.accuracy.data"),
    )
    metric: Metric = Field(
        default=Metric.TOP1,
        description="top1: share of samples whose largest output is the label (without labels: the model's own). "
        "cosine: mean cosine similarity between the plan's and the model's outputs.",
    )
    max_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        description="The most that the metric may fall below the model's own, from 0 to 1: 0.005 is half a percent."
    )


class LatencyGate(Strict):
    """How long one inference may take."""

    batch: int = Field(default=1, ge=1, le=65536, description="The batch size that is measured.")
    p99: Duration = Field(description="99 of 100 inferences must take at most this long, as in 7ms.")


class Gates(Strict):
    """What a plan must pass before it serves. A plan that fails one is never rolled out."""

    accuracy: AccuracyGate | None = Field(default=None, description="How much accuracy the plan may lose.")
    latency: LatencyGate | None = Field(default=None, description="How long one inference may take.")
    memory: Quantity | None = Field(default=None, description="Bytes that a loaded engine may take at the most.")
