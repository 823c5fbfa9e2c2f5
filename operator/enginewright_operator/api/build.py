"""How plans are built: which arithmetic, from which data, for how long, and what makes one be built again."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from enginewright_operator.api.base import Strict
from enginewright_operator.api.quantities import Duration, Quantity
from enginewright_operator.api.resources import Resources
from enginewright_operator.api.storage import ObjectName, Uri, uri_rules
from enginewright_runtime.plan.recipe import Effort, Precision


class RebuildOn(StrEnum):
    """What makes a plan that serves be built again."""

    CHANGE = "Change"
    UPGRADE = "Upgrade"


class PrecisionRule(Strict):
    """Layers that must keep a precision."""

    layers: str = Field(min_length=1, max_length=256, description="Names of layers, with * and ? as in head/*.")
    precision: Precision = Field(description="The precision that they keep.")


class PrecisionChoice(Strict):
    """Which arithmetic the build may use."""

    allow: Annotated[tuple[Precision, ...], Field(min_length=1, max_length=5)] = Field(
        default=(Precision.FP32,),
        description="Precisions to choose from for each layer; fp32 always stays allowed as the fallback.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    keep: Annotated[tuple[PrecisionRule, ...], Field(max_length=64)] = Field(
        default=(), description="Exceptions, for layers that lose too much."
    )


class Calibration(Strict):
    """The data from which the ranges of int8 tensors are taken."""

    uri: Uri = Field(
        description="An .npz file with one array for each input, its first dimension the sample.",
        json_schema_extra=uri_rules("calibration.uri"),
    )
    samples: int = Field(default=512, ge=1, le=100_000, description="How many samples to use at the most.")
    algorithm: Annotated[str, Field(json_schema_extra={"enum": ["auto", "entropy", "minmax", "percentile"]})] = Field(
        default="auto", description="How ranges are chosen; auto tries them all and keeps the most accurate."
    )


class Build(Strict):
    """How plans are built."""

    workspace: Quantity = Field(default="1Gi", description="Bytes that one tactic may use for scratch.")
    deadline: Duration = Field(
        default="30m",
        description="After this long a build Job is stopped and has failed; trying tactics takes three quarters of it "
        "at the most.",
    )
    effort: Effort = Field(default=Effort.BALANCED, description="How long to look for faster tactics.")
    resources: Resources | None = Field(
        default=None, description="Requests and limits of the build's pod; by default the operator's settings."
    )
    queue: ObjectName | None = Field(
        default=None, description="The Kueue LocalQueue that admits the build Job; without one it starts at once."
    )
    allow_host: bool = Field(
        default=False,
        description="Whether layers that have no kernel on the GPU may run on its machine's CPU; otherwise they fail "
        "the build, which names them all.",
    )
    rebuild_on: RebuildOn = Field(
        default=RebuildOn.CHANGE,
        description="Change: build again when the model, its data, this spec or its GPUs change. Upgrade: also when "
        "the operator is of a new version, its builder's image another one, or the GPUs' driver of a newer branch.",
    )
    plugins: tuple[Uri, ...] = Field(
        default=(),
        max_length=16,
        description="Python modules with layers of your own. Their code runs in build and serving pods, where the "
        "operator allows it.",
    )
