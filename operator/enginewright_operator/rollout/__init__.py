"""What a target's Deployments say, and the next step of its rollout. Pure.

Everything that a step depends on is in `Situation`: the spec, the status row, the Deployments as they are, the pods'
metrics, and the time. The same situation gives the same step, so a step that was cut off is simply done again.
"""

from enginewright_operator.rollout.analysis import Reading, Sample
from enginewright_operator.rollout.canary import sample_due
from enginewright_operator.rollout.decide import Situation, Step, fingerprint, next_step
from enginewright_operator.rollout.deployments import finished, pods, served_by, stuck, verdict
from enginewright_operator.rollout.waiting import why_not_ready

__all__ = [
    "Reading",
    "Sample",
    "Situation",
    "Step",
    "fingerprint",
    "finished",
    "next_step",
    "pods",
    "sample_due",
    "served_by",
    "stuck",
    "verdict",
    "why_not_ready",
]
