"""What the operator asks a build Job for, and what the Job answers.

A request travels as JSON in the Job's environment, a result as JSON in the container's termination message, which
Kubernetes cuts at 4,096 bytes. The builder needs no access to the cluster's API.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import Recipe

REQUEST_VARIABLE = "ENGINEWRIGHT_BUILD_REQUEST"
TERMINATION_VARIABLE = "ENGINEWRIGHT_TERMINATION_MESSAGE"
TERMINATION_LIMIT = 4096
SENTENCE_LEAST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How to reach an object store. Credentials are never part of it: they come from the process's environment.

    `endpoint` is a URL for a store other than Amazon's; `ca_bundle` is a path to PEM certificates.
    """

    endpoint: str = ""
    region: str = ""
    path_style: bool = False
    ca_bundle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """A recipe, and where its inputs lie and its plan goes (URIs: s3://bucket/key or file:///path).

    `timing_cache` is where builders share what they measured; it decides no plan's name, so the recipe has none of it.
    `budget_seconds` is what trying tactics may take at the most; 0 is as long as the effort says.
    `deadline_seconds`, where it is not 0, is when whoever ordered the build stops it, counted from its start.
    `workspace`, where it is not 0, is a limit in bytes below the recipe's own: a build before this one took too much.
    """

    recipe: Recipe
    model: str
    destination: str
    companion: str = ""
    calibration: str = ""
    accuracy_data: str = ""
    plugins: tuple[str, ...] = ()
    timing_cache: str = ""
    budget_seconds: float = 0.0
    deadline_seconds: float = 0.0
    workspace: int = 0
    storage: StoreOptions = field(default_factory=StoreOptions)

    @property
    def workspace_limit(self) -> int:
        """Bytes that one tactic may use for scratch."""
        return min(self.recipe.workspace, self.workspace or self.recipe.workspace)

    def to_json(self) -> str:
        """The canonical JSON text."""
        return records.canonical(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "BuildRequest":
        """Read a request. Raises PlanError naming the field that does not fit."""
        return records.from_json(cls, records.parse(text, what="The build request"), what="build request")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One gate's judgement: `measured` and `limit` are in `unit`; `message` says by how much it failed."""

    gate: str
    passed: bool
    measured: float
    limit: float
    unit: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """How a build ended. `message` is one sentence, written for the person who wrote the manifest."""

    outcome: str
    message: str
    digest: str = ""
    plan_bytes: int = 0
    plan_sha256: str = ""
    layers_before: int = 0
    layers_after: int = 0
    seconds: float = 0.0
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[Verdict, ...] = ()

    @classmethod
    def of(cls, outcome: Outcome, message: str) -> "BuildResult":
        """A result that has nothing to tell but how it ended."""
        return cls(outcome=outcome.name, message=message)

    def to_termination_message(self) -> str:
        """JSON of at most 4,096 bytes of UTF-8.

        Where all does not fit, the sentence is cut, with an ellipsis; should less than SENTENCE_LEAST characters of it
        be left, the latencies are left out first, then the gates.
        """
        # A file name that is not UTF-8 may stand in the sentence.
        whole = replace(self, message=self.message.encode(errors="replace").decode())
        text = ""
        for result in (whole, replace(whole, latency_ms={}), replace(whole, latency_ms={}, gates=())):
            kept, text = result._fitted()
            if kept >= min(len(whole.message), SENTENCE_LEAST):
                return text
        return text

    def _fitted(self) -> tuple[int, str]:
        """How many characters of the sentence fit, and the JSON text with so many; -1 where it cannot fit at all."""
        if len(text := records.canonical(self)) <= TERMINATION_LIMIT:
            return len(self.message), text.decode()

        def cut(length: int) -> bytes:
            return records.canonical(replace(self, message=self.message[:length].rstrip() + " …"))

        lengths = range(min(len(self.message), TERMINATION_LIMIT) + 1)
        kept = bisect_right(lengths, TERMINATION_LIMIT, key=lambda length: len(cut(length))) - 1
        return kept, cut(max(kept, 0)).decode()

    @classmethod
    def from_termination_message(cls, text: str) -> "BuildResult | None":
        """Read a result; None where the text is none (a container that was killed leaves none)."""
        try:
            return records.from_json(cls, records.parse(text, what="The termination message"), what="build result")
        except PlanError:
            return None
