"""What a target's Deployments say, and the next step of its rollout. Pure.

Everything that a step depends on is in `Situation`: the spec, the status row, the Deployments as they are, and the
time. The same situation gives the same step, so a step that was cut off is simply done again.
"""

from enginewright_operator.rollout.decide import Situation, Step, fingerprint, next_step
from enginewright_operator.rollout.deployments import finished, ready_replicas, stuck, verdict
from enginewright_operator.rollout.pods import why_not_ready

__all__ = [
    "Situation",
    "Step",
    "fingerprint",
    "finished",
    "next_step",
    "ready_replicas",
    "stuck",
    "verdict",
    "why_not_ready",
]
