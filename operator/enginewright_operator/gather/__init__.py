"""All reads: what a reconciliation needs to know, fetched fresh and frozen into one Input before anything is decided.

Nothing here writes, and nothing here judges: a Secret that is not there is a fact for the policies.
"""

from enginewright_operator.gather.facts import (
    EngineInput,
    FinalizeInput,
    PlanInput,
    TargetInput,
    builds_ended,
    owns,
)
from enginewright_operator.gather.gatherer import Gatherer

__all__ = ["EngineInput", "FinalizeInput", "Gatherer", "PlanInput", "TargetInput", "builds_ended", "owns"]
