"""What the operator and its commands refuse, each as one sentence.

What goes wrong inside a cluster is not raised: it becomes a condition (see conditions.py). These classes are for
manifests that cannot be read at all, and for requests that the API server refused.
"""

from enginewright_runtime.errors import EnginewrightError, UsageError


class ManifestError(UsageError):
    """A manifest says something that its kind does not allow."""


class ClusterError(EnginewrightError):
    """The API server did not do what was asked; trying again later may help."""


class ConflictError(ClusterError):
    """Somebody else changed the object meanwhile: read it again and decide again."""


class ForbiddenError(ClusterError):
    """The operator lacks a right."""


class NameTakenError(ClusterError):
    """Somebody else's object bears the name of one that was to be made; only a person can mend it."""


class QuotaError(ClusterError):
    """The namespace's ResourceQuota is used up: nothing is wrong with the object, and it may fit later."""


class NamespaceTerminatingError(ClusterError):
    """The namespace is going, and takes nothing new: there is nothing left to do in it."""


class WatchError(ClusterError):
    """The API server ended a watch so that kopf cannot go on, or could not be watched at all."""


class NotLeadingError(ClusterError):
    """A write was not sent, because another process may lead by now."""
