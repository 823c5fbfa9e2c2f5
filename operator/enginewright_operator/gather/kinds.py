"""Which kinds are watched: those that the cluster has, and that this operator may watch."""

import logging
from collections.abc import Mapping

from enginewright_operator import api
from enginewright_operator.errors import ForbiddenError
from enginewright_operator.kube import Kube
from enginewright_operator.settings import Settings
from enginewright_operator.watched import WATCHED, WatchedKind

logger = logging.getLogger(__name__)

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = ("list", "watch")


async def are_served(kube: Kube) -> bool:
    """Whether the API server knows our kinds by now: the chart makes the CRDs and the operator at once."""
    found = await kube.discover(api.API_VERSION)
    return {api.InferenceEngine.PLURAL, api.EnginePlan.PLURAL, api.GPUClass.PLURAL} <= found


async def watchable(kube: Kube, settings: Settings) -> Mapping[str, WatchedKind]:
    """The kinds to watch; cluster-scoped ones only where they may be read. Says which optional ones are left out."""
    chosen = {}
    for kind, how in WATCHED.items():
        if how.cluster_scoped and settings.gpu_classes is not None:
            continue  # with Roles alone none may be read
        if how.optional and (why_not := await _why_not(kube, how)):
            logger.info("%ss are not watched, and changes of them are seen later: %s.", kind, why_not)
            continue
        chosen[kind] = how
    return chosen


async def _why_not(kube: Kube, how: WatchedKind) -> str:
    """What keeps an optional kind from being watched; empty where nothing does."""
    if how.plural not in await kube.discover(how.api_version):
        return f"this cluster has no {how.plural} of {how.api_version}"
    group = how.api_version.partition("/")[0]
    lacking = [verb for verb in VERBS if not await _may(kube, verb, group, how.plural)]
    if lacking:
        return f"the operator's ClusterRole lacks {' and '.join(lacking)} of {how.plural}.{group}"
    return ""


async def _may(kube: Kube, verb: str, group: str, plural: str) -> bool:
    """Whether RBAC lets this operator do so: asked before, since a watch that is refused ends the process."""
    asked = {"resourceAttributes": {"verb": verb, "group": group, "resource": plural}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked}
    try:
        answer = await kube.send("POST", REVIEWS, review)
    except ForbiddenError:
        return False  # a cluster may forbid the question too
    return bool(((answer or {}).get("status") or {}).get("allowed"))
