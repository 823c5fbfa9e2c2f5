"""What there is to build and to serve on: GPU classes, nodes, and the devices that can be claimed there."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from enginewright_operator import api, gpu, slices
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.kube import Manifest
from enginewright_operator.settings import Settings
from enginewright_operator.watched import Put

NODES_FRESH_FOR = 10.0


class Machines:
    """Reads GPUClasses, Nodes and ResourceSlices, where they may be read."""

    def __init__(self, kube: CachedKube, settings: Settings, *, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._settings = settings
        self._clock = clock
        self._reading = asyncio.Lock()
        self._listed: tuple[float, tuple[gpu.Node, ...]] = (-NODES_FRESH_FOR, ())  # when, and without their devices
        self._devices: slices.ByNode = {}
        self._changes: int | None = None  # of ResourceSlices, as of which the devices are; None: not watched
        self._nodes: tuple[gpu.Node, ...] = ()
        self._gpus: Mapping[str, frozenset[gpu.Gpus]] = {}  # by GPU class, as they were at the last poll

    async def gpu_class(self, name: str) -> api.GPUClass | None:
        """The GPUClass of that name."""
        if self._settings.gpu_classes is not None:
            return (await self.gpu_classes()).get(name)
        found = await self._kube.get("GPUClass", "", name)
        return api.read(api.GPUClass, found) if found else None

    async def gpu_classes(self) -> Mapping[str, api.GPUClass]:
        """Every GPUClass by name: the cluster's, or those of the settings where the cluster's may not be read."""
        given = self._settings.gpu_classes
        if given is None:
            listed = await self._kube.find("GPUClass")
            return {each["metadata"]["name"]: api.read(api.GPUClass, each) for each in listed}
        return {name: api.GPUClass(metadata=api.ObjectMeta(name=name), spec=spec) for name, spec in given.items()}

    async def nodes(self) -> tuple[gpu.Node, ...] | None:
        """The cluster's nodes, at most ten seconds old: they are many, and every plan asks. None: not to be read.

        Their devices are as the watch of ResourceSlices told last; where there is none, as old as the nodes.
        """
        if self._settings.gpu_classes is not None:
            return None
        async with self._reading:  # one worker asks, and the others have its answer
            listed, devices, changes = self._listed, self._devices, self._kube.changes("ResourceSlice")
            old, news = self._clock() - listed[0] >= NODES_FRESH_FOR, changes != self._changes
            if old:
                found = await self._kube.list("Node")
                listed = (self._clock(), tuple(map(_node, found)))
            if news or (old and changes is None):
                devices = await self._read_devices(watched=changes is not None)
            if old or news:
                self._listed, self._devices, self._changes = listed, devices, changes
                self._nodes = tuple(replace(node, devices=devices.get(node.name, ())) for node in listed[1])
            return self._nodes

    async def _read_devices(self, *, watched: bool) -> slices.ByNode:
        """What can be claimed on each node; unless that is watched, only where a class asks for it."""
        if not watched:
            if not any(each.spec.claims for each in (await self.gpu_classes()).values()):
                return {}
            if "resourceslices" not in await self._kube.discover("resource.k8s.io/v1"):
                return {}
        return slices.by_node(await self._kube.find("ResourceSlice"))

    async def poll(self, put: Put) -> int:
        """Look at the nodes anew; engines on whose class's GPUs something is other than before are put.

        Returns of how many classes that is so. No event tells of it: nodes are written every few seconds.
        """
        nodes = await self.nodes()
        if nodes is None:
            return 0
        found = {name: gpu.gpus(each.spec, nodes) for name, each in (await self.gpu_classes()).items()}
        changed = [name for name, gpus in found.items() if gpus != self._gpus.get(name, gpus)]
        self._gpus = found
        for gpu_class in changed:
            for engine in await self._kube.find("InferenceEngine", where=("class", gpu_class)):
                put("InferenceEngine", engine["metadata"]["namespace"], engine["metadata"]["name"])
        return len(changed)


def _node(manifest: Manifest) -> gpu.Node:
    return gpu.Node(
        name=manifest["metadata"]["name"],
        labels=manifest["metadata"].get("labels") or {},
        allocatable=(manifest.get("status") or {}).get("allocatable") or {},
        closed=bool((manifest.get("spec") or {}).get("unschedulable")),
    )
