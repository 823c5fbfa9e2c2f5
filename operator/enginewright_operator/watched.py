"""Which kinds are watched, how they are found in the cache, and who has to look when one of them changes.

kopf's watches, the answers to our own writes, and the periodic lists all come through `Watched`; whatever is news is
kept, and the keys of those whom it concerns are put into the queue.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from enginewright_operator import metrics, slices
from enginewright_operator.api import API_VERSION, GROUP, ResourceKind
from enginewright_operator.cache import Index, Kind, Manifest, Name, name_of, version_of
from enginewright_operator.render import names

Put = Callable[[str, str, str], None]  # kind, namespace, name

MANAGED = f"{names.MANAGED_BY_LABEL}={names.MANAGER}"


def owner_uids(manifest: Manifest) -> Iterator[str]:
    """Index `owner`: the uids of those that keep the object alive."""
    return (str(owner["uid"]) for owner in manifest["metadata"].get("ownerReferences") or ())


def classes_of(manifest: Manifest) -> Iterator[str]:
    """Index `class`: the GPU classes that an engine names."""
    return (str(target.get("gpuClass", "")) for target in manifest["spec"].get("targets") or ())


def plan_of(manifest: Manifest) -> Iterator[str]:
    """Index `plan`: the EnginePlan that a Deployment serves."""
    yield str((manifest["metadata"].get("annotations") or {}).get(names.PLAN, ""))


def class_of(manifest: Manifest) -> Iterator[str]:
    """Index `class`: the GPU class that a build Job runs on, as its label has it."""
    yield str((manifest["metadata"].get("labels") or {}).get(names.GPU_CLASS_LABEL, ""))


def file_of(manifest: Manifest) -> Iterator[str]:
    """Index `file`: where an EnginePlan's file lies."""
    yield str(manifest["spec"].get("planURI", ""))


def resources_of(manifest: Manifest) -> Iterator[str]:
    """Index `resources`: how pods of a GPU class ask for their GPU."""
    yield str(manifest["spec"].get("resources", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedKind:
    """How a kind is watched: only objects with these labels and fields, found by these indexes.

    One that is `optional` need not be there, and need not be allowed (gather/kinds.py).
    """

    api_version: str
    plural: str
    labels: str = ""
    fields: str = ""
    indexes: Mapping[str, Index] = field(default_factory=dict)
    cluster_scoped: bool = False
    optional: bool = False


WATCHED: Mapping[str, WatchedKind] = {
    "InferenceEngine": WatchedKind(
        api_version=API_VERSION, plural="inferenceengines", indexes={"class": classes_of}
    ),  # what people write
    "EnginePlan": WatchedKind(
        api_version=API_VERSION, plural="engineplans", indexes={"owner": owner_uids, "file": file_of}
    ),  # a build's progress concerns all engines that own it
    "GPUClass": WatchedKind(
        api_version=API_VERSION, plural="gpuclasses", cluster_scoped=True, indexes={"resources": resources_of}
    ),  # one that changes makes other recipes of its engines
    "Deployment": WatchedKind(
        api_version="apps/v1", plural="deployments", labels=MANAGED, indexes={"owner": owner_uids, "plan": plan_of}
    ),  # a rollout's progress
    "Service": WatchedKind(
        api_version="v1", plural="services", labels=MANAGED, indexes={"owner": owner_uids}
    ),  # this and the next two: one that was deleted by hand
    "PodDisruptionBudget": WatchedKind(
        api_version="policy/v1", plural="poddisruptionbudgets", labels=MANAGED, indexes={"owner": owner_uids}
    ),
    "HorizontalPodAutoscaler": WatchedKind(
        api_version="autoscaling/v2", plural="horizontalpodautoscalers", labels=MANAGED, indexes={"owner": owner_uids}
    ),
    "Job": WatchedKind(
        api_version="batch/v1", plural="jobs", labels=MANAGED, indexes={"class": class_of}
    ),  # a build that ended
    "ResourceSlice": WatchedKind(
        api_version="resource.k8s.io/v1",
        plural="resourceslices",
        fields=f"spec.driver={slices.DRIVER}",
        cluster_scoped=True,
        optional=True,
    ),  # devices that came, changed or went concern all engines that claim one
}


class Watched:
    """The cache of all watched kinds, and who has to look at what it learns."""

    def __init__(self, put: Put, put_soon: Put | None = None) -> None:
        self._put = put
        self._put_soon = put_soon or put  # of children and devices: their steps come in bursts
        self._kinds = {kind: Kind(watched.indexes) for kind, watched in WATCHED.items()}

    def __getitem__(self, kind: str) -> Kind:
        return self._kinds[kind]

    def saw(self, kind: str, manifest: Manifest, *, gone: bool = False, itself: bool = True) -> bool:
        """An object is so, or is gone: by an event, a list, or the answer to a request of ours. True if it is news.

        Whom it concerns is put into the queue; `itself`: the object too.
        """
        held = self._kinds[kind]
        news = held.drop(name_of(manifest), version_of(manifest)) if gone else held.put(manifest)
        if news:
            self._tell(kind, manifest, gone=gone, itself=itself)
        return news

    def missed(self, kind: str, namespace: str, name: str) -> None:
        """The API server has no such object (any more)."""
        known = self._kinds[kind].get(namespace, name)
        if known is not None:
            self._kinds[kind].drop((namespace, name))
            self._tell(kind, known, gone=True)

    def listed(self, kind: str, names_of_all: Collection[Name], version: int) -> int:
        """A whole list was seen, as of a version; returns how many objects had gone without an event."""
        gone = self._kinds[kind].settle(names_of_all, version)
        for manifest in gone:
            self._tell(kind, manifest, gone=True)
        return len(gone)

    def _tell(self, kind: str, manifest: Manifest, *, gone: bool = False, itself: bool = True) -> None:
        namespace, name = name_of(manifest)
        if kind in ("InferenceEngine", "EnginePlan"):
            metrics.OBJECTS.seen(kind, namespace, name, None if gone else manifest)
            if itself:
                self._put(kind, namespace, name)
        if kind == "GPUClass":
            self._tell_engines(name, self._put)
        if kind == "ResourceSlice":
            for _, gpu_class in self._kinds["GPUClass"].names(where=("resources", ResourceKind.CLAIMS)):
                self._tell_engines(gpu_class, self._put_soon)
        for owner in manifest["metadata"].get("ownerReferences") or ():
            if str(owner.get("apiVersion", "")).startswith(f"{GROUP}/"):
                self._put_soon(owner["kind"], namespace, owner["name"])

    def _tell_engines(self, gpu_class: str, put: Put) -> None:
        for engine in self._kinds["InferenceEngine"].names(where=("class", gpu_class)):
            put("InferenceEngine", *engine)
