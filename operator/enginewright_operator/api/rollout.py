"""How a new plan takes over from the one that serves, and what is remembered of one that was given up."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import Lenient, Strict, validations
from enginewright_operator.api.quantities import Duration


class Strategy(StrEnum):
    """How pods move to a new plan."""

    ROLLING_UPDATE = "RollingUpdate"
    RECREATE = "Recreate"
    CANARY = "Canary"


class Pause(Strict):
    """Time in which the canary is watched."""

    duration: Duration | None = Field(
        default=None,
        description="How long, as in 5m; without it until a person sets the engine's annotation "
        "enginewright.dev/promote to the plan's name.",
    )


class CanaryStep(Strict):
    """One step of a canary."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            ("has(self.setWeight) != has(self.pause)", "a step of rollout.canary has either setWeight or pause"),
        )
    )

    set_weight: int | None = Field(default=None, ge=1, le=99, description="The canary's share in percent.")
    pause: Pause | None = Field(default=None, description="Wait, as in {duration: 5m}; {}: for a person.")


DEFAULT_STEPS = (
    CanaryStep(set_weight=20),
    CanaryStep(pause=Pause(duration="1m")),
    CanaryStep(set_weight=50),
    CanaryStep(pause=Pause(duration="1m")),
)


class Analysis(Strict):
    """What the canary's own metrics must show against those of the plan that serves."""

    interval: Duration = Field(default="30s", description="How often the canary is measured.")
    min_requests: int = Field(
        default=50,
        ge=0,
        le=1_000_000,
        description="A measurement needs so many requests to the canary; no weight is left without one that passed. "
        "0: where there is no traffic, time alone counts.",
    )
    failure_limit: int = Field(
        default=1, ge=0, le=100, description="How many measurements may fail; one more, and the canary is rolled back."
    )
    max_error_rate: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="By how much the canary's share of failed requests (status 400 and above) may exceed the other's.",
    )
    max_p99_ratio: float = Field(
        default=1.5, gt=0, le=1000, description="The canary's p99 may be at most this many times the other's."
    )


class Canary(Strict):
    """How a canary goes."""

    steps: Annotated[tuple[CanaryStep, ...], Field(max_length=32)] = Field(
        default=(),
        description="What happens one after the other before the new plan takes over; by default 20 %, 1m, 50 %, 1m.",
        json_schema_extra=validations(
            ("size(self) == 0 || has(self[0].setWeight)", "rollout.canary.steps must begin with a setWeight"),
        ),
    )
    analysis: Analysis = Field(default_factory=Analysis, description="What the canary must show to go on.")

    @property
    def all_steps(self) -> tuple[CanaryStep, ...]:
        """The given steps, or the usual ones."""
        return self.steps or DEFAULT_STEPS


class Rollout(Strict):
    """How a new plan takes over."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!has(self.canary) || self.strategy == 'Canary'",
                "rollout.canary says how a canary goes: set rollout.strategy to Canary, or take rollout.canary away",
            ),
        )
    )

    strategy: Strategy = Field(
        default=Strategy.ROLLING_UPDATE,
        description="RollingUpdate: pod by pod. Recreate: all old pods go first, and nobody answers meanwhile. Canary: "
        "a growing share of pods serves the new plan, and their metrics decide whether it takes over.",
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
    canary: Canary | None = Field(default=None, description="Steps and analysis, where the strategy is Canary.")

    @property
    def canary_rules(self) -> Canary:
        """The given canary, or the usual one."""
        return self.canary or Canary()


class Rejection(Lenient):
    """A plan that was rolled back. It is not tried again until the plan, its pods or the rollout's rules change."""

    plan: str = Field(description="The EnginePlan.")
    message: str = Field(description="What went wrong, in one sentence.")
    at: str = Field(description="When it was rolled back.", json_schema_extra={"format": "date-time"})
    fingerprint: str = Field(description="Digest of the pods and the rules that it was tried with.")


class Counts(Lenient):
    """The counters of a set of pods, added up."""

    requests: int = Field(default=0, description="Inference requests answered.")
    errors: int = Field(default=0, description="Those of them with a status of 400 and above.")
    buckets: dict[str, int] = Field(
        default_factory=dict, description="Requests that took at most so many seconds, as a Prometheus histogram."
    )


class Window(Lenient):
    """Where the current measurement began."""

    at: str = Field(description="When.", json_schema_extra={"format": "date-time"})
    pods: str = Field(description="Digest of the pods' names: other pods have other counters.")
    restarts: int = Field(default=0, description="How often the canary's containers had been restarted.")
    stable: Counts = Field(default_factory=Counts, description="The counters of the plan that serves.")
    canary: Counts = Field(default_factory=Counts, description="The counters of the canary.")


class CanaryStatus(Lenient):
    """How far a canary is."""

    plan: str = Field(description="The EnginePlan that is tried.")
    step: int = Field(default=0, description="The step under way, from 0; as many as there are steps: it takes over.")
    weight: int = Field(default=0, description="Its share in percent, as the steps say.")
    since: str = Field(description="When this step began.", json_schema_extra={"format": "date-time"})
    ready: int = Field(default=0, description="How many of its pods were ready at the last look.")
    passed: int = Field(default=0, description="Measurements at this weight that passed.")
    failures: int = Field(default=0, description="Measurements that failed.")
    measurement: str = Field(default="", description="What the last measurement showed.")
    message: str = Field(default="", description="What is waited for.")
    window: Window | None = Field(default=None, description="Where the current measurement began.")
