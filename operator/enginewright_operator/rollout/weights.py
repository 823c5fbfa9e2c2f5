"""A share of traffic as numbers of pods, and the way there that never has too many or too few.

Both Deployments stand behind one Service, so a share is a share of pods.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """What there is of one Deployment."""

    wanted: int = 0  # as it was last told
    there: int = 0
    ready: int = 0


def goals(replicas: int, weight: int) -> tuple[int, int]:
    """Pods of the plan that serves and of the canary at a share in percent.

    They are `replicas` together, except that one of each is left: of one replica the canary is a second pod.
    """
    if weight <= 0 or replicas == 0:
        return replicas, 0
    canary = min(max(1, (replicas * weight + 50) // 100), max(1, replicas - 1))
    return max(1, replicas - canary), canary


def towards(stable: Pods, canary: Pods, goal: tuple[int, int], *, replicas: int, surge: int) -> tuple[int, int]:
    """The next numbers on the way to the goal: at most `replicas + surge` pods, none taken that is still needed.

    Without a surge one pod may be missing, as in a rolling update: it goes before the other one comes.
    """
    most, least = max(replicas + surge, sum(goal)), replicas - (0 if surge else 1)
    return (
        _next(stable.wanted, goal[0], room=most - max(canary.wanted, canary.there), needed=least - canary.ready),
        _next(canary.wanted, goal[1], room=most - max(stable.wanted, stable.there), needed=least - stable.ready),
    )


def _next(now: int, goal: int, *, room: int, needed: int) -> int:
    if goal > now:
        return max(now, min(goal, room))
    return max(goal, min(now, needed))
