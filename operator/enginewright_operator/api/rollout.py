"""How a new plan takes over from the one that serves, and what is remembered of one that did not come up."""

from enum import StrEnum

from pydantic import Field

from enginewright_operator.api.base import Lenient, Strict
from enginewright_operator.api.quantities import Duration


class Strategy(StrEnum):
    """How pods move to a new plan."""

    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"


class Rollout(Strict):
    """How a new plan takes over."""

    strategy: Strategy = Field(
        default=Strategy.ROLLING_UPDATE,
        description="RollingUpdate: pod by pod. Recreate: all old pods go first, and nobody answers meanwhile.",
    )
    max_surge: int = Field(
        default=1,
        ge=0,
        le=100,
        description="How many pods beyond the wanted ones a rollout may have. 0 is for clusters without a spare GPU: "
        "an old pod goes before its new one comes, so that with one replica nobody answers meanwhile.",
    )
    progress_deadline: Duration | None = Field(
        default=None,
        description="A rollout that has got no further for this long is given up, and the plan before it serves again; "
        "by default the operator's own, 10m.",
    )
    keep_last: int = Field(default=2, ge=0, le=20, description="How many former plans are kept for going back.")


class Rejection(Lenient):
    """A plan that was rolled back. It is not tried again until the plan, its pods or the rollout's rules change."""

    plan: str = Field(description="The EnginePlan.")
    message: str = Field(description="What went wrong, in one sentence.")
    at: str = Field(description="When it was rolled back.", json_schema_extra={"format": "date-time"})
    fingerprint: str = Field(description="Digest of the pods and the rules that it was tried with.")
