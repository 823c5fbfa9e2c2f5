"""All reads: what a reconciliation needs to know, fetched fresh and frozen into one Input before anything is decided.

Nothing here writes, and nothing here judges: a Secret that is not there is a fact for policies.py. A Secret is read
only where a spec names it.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from enginewright_operator import api, gpu, metrics, recipes
from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.kube import Kube, Manifest
from enginewright_operator.render import names
from enginewright_operator.settings import Settings
from enginewright_operator.stores import Access, Stores
from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError

MANAGED_BY = f"{names.MANAGED_BY_LABEL}={names.MANAGER}"
NODES_FRESH_FOR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """What is known of one target of an engine."""

    target: api.Target
    gpu_class: api.GPUClass | None
    deployment: Manifest | None
    row: api.TargetStatus | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInput:
    """What is known of an InferenceEngine. `plans` are all of its namespace, by name."""

    engine: api.InferenceEngine
    storage: api.Storage | None
    targets: tuple[TargetInput, ...]
    plans: Mapping[str, api.EnginePlan]
    gpu_classes: tuple[str, ...] = ()  # the names of all that there are
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read
    stray_deployments: tuple[Manifest, ...] = ()
    in_the_way: tuple[str, ...] = ()  # objects that bear a name which ours would have, and are somebody else's
    credential_keys: frozenset[str] | None = None  # of the Secret that storage names; None if there is no such Secret
    missing_keys: tuple[str, ...] = ()  # Secrets and ConfigMaps of the operator's signing settings that are not there
    identities: recipes.Identities | None = None
    storage_problem: Verdict | None = None
    file_uris_allowed: bool = False

    @property
    def owned(self) -> tuple[api.EnginePlan, ...]:
        """The plans that this engine keeps alive."""
        return tuple(plan for plan in self.plans.values() if owns(self.engine, plan))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """What is known of an EnginePlan. `pods` are those of its Job, the oldest first."""

    plan: api.EnginePlan
    gpu_class: api.GPUClass | None = None
    job: Manifest | None = None
    pods: tuple[Manifest, ...] = ()
    refusal: str = ""  # why the Job's pod could not be made, in the words of its last event; asked where there is none
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeInput:
    """What is known of an EnginePlan that is being deleted."""

    plan: api.EnginePlan
    job: Manifest | None
    users: tuple[str, ...]  # Deployments that still serve it
    sharers: tuple[str, ...]  # other EnginePlans whose files are the same
    access: Access | None = field(repr=False, default=None)  # None: the Secret is gone


def owns(engine: api.InferenceEngine, plan: api.EnginePlan) -> bool:
    """Whether the engine is among the plan's owners."""
    return any(owner.uid == engine.metadata.uid for owner in plan.metadata.owner_references)


class Gatherer:
    """Reads the cluster and the stores."""

    def __init__(
        self, kube: Kube, stores: Stores, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self._nodes: tuple[float, tuple[gpu.Node, ...]] = (-NODES_FRESH_FOR, ())

    async def kinds_are_served(self) -> bool:
        """Whether the API server knows our kinds by now: the chart makes the CRDs and the operator at once."""
        found = await self._kube.discover(api.API_VERSION)
        return {api.InferenceEngine.PLURAL, api.EnginePlan.PLURAL, api.GPUClass.PLURAL} <= found

    async def keys(self, kind: str, namespaces: tuple[str, ...]) -> list[tuple[str, str]]:
        """Namespace and name of every object of a kind."""
        found: list[Manifest] = []
        for namespace in namespaces or ("",):
            found += await self._kube.list(kind, namespace)
        return [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in found]

    async def manifest(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object as it is in the cluster."""
        found = await self._kube.get(kind, namespace, name)
        metrics.OBJECTS.seen(kind, namespace, name, found)
        return found

    async def engine(self, engine: api.InferenceEngine) -> EngineInput:
        """Everything around an engine."""
        namespace = engine.metadata.namespace
        storage = engine.spec.storage or self._settings.default_storage
        plans, deployments, classes, nodes = await asyncio.gather(
            self._kube.list("EnginePlan", namespace),
            self._kube.list("Deployment", namespace, labels=MANAGED_BY),
            self._classes(),
            self.nodes(),
        )
        mine = {each["metadata"]["name"]: each for each in deployments if _owned_by(engine, each)}
        rows = {row.gpu_class: row for row in (engine.status.targets if engine.status else ())}
        targets = tuple(
            TargetInput(
                target=target,
                gpu_class=classes.get(target.gpu_class),
                deployment=mine.pop(names.deployment_name(engine.metadata.name, target.gpu_class), None),
                row=rows.get(target.gpu_class),
            )
            for target in engine.spec.targets
        )
        missing = [
            names.deployment_name(engine.metadata.name, each.target.gpu_class)
            for each in targets
            if each.deployment is None
        ]
        gathered = EngineInput(
            engine=engine,
            storage=storage,
            targets=targets,
            plans={plan.metadata.name: plan for plan in (api.read(api.EnginePlan, each) for each in plans)},
            gpu_classes=tuple(sorted(classes)),
            nodes=nodes,
            stray_deployments=tuple(mine.values()),
            in_the_way=await self._in_the_way(engine, missing),
            missing_keys=await self._missing_keys(namespace),
            file_uris_allowed=self._settings.allow_file_uris,
        )
        return await self._with_identities(gathered)

    async def _in_the_way(self, engine: api.InferenceEngine, deployments: Sequence[str]) -> tuple[str, ...]:
        """What an apply would take from somebody else: an object is ours only if the engine owns it."""
        namespace = engine.metadata.namespace
        wanted = [
            ("Service", names.service_name(engine.metadata.name)),
            *(("Deployment", name) for name in deployments),
        ]
        found = await asyncio.gather(*(self._kube.get(kind, namespace, name) for kind, name in wanted))
        return tuple(
            f"{kind} {name}"
            for (kind, name), each in zip(wanted, found, strict=True)
            if each is not None and not _owned_by(engine, each)
        )

    async def _missing_keys(self, namespace: str) -> tuple[str, ...]:
        wanted = [("Secret", self._settings.signing_secret)]
        if self._settings.signature_policy != "off":
            wanted.append(("ConfigMap", self._settings.trusted_keys))
        # Their metadata alone: a private key has no business in this process.
        return tuple([f"{kind} {name}" for kind, name in wanted
                      if name and await self._kube.metadata(kind, namespace, name) is None])  # fmt: skip

    async def _with_identities(self, inp: EngineInput) -> EngineInput:
        """The same with what the store says about the inputs, where it may be asked."""
        spec, storage, namespace = inp.engine.spec, inp.storage, inp.engine.metadata.namespace
        if storage is None or spec.paused or (_uses_files(inp) and not inp.file_uris_allowed):
            return inp
        secret = await self._secret(namespace, storage)
        keys = None if secret is None else frozenset(secret)
        inp = replace(inp, credential_keys=keys)
        if storage.credentials_secret and not set(api.CREDENTIAL_KEYS) <= (keys or set()):
            return inp
        access = Access(storage=storage, credentials=secret or {}, ca_certificates=await self._ca(namespace, storage))
        try:
            return replace(inp, identities=await self._identities(spec, access))
        except (StorageError, UsageError) as error:
            return replace(inp, storage_problem=_problem(error))

    async def _identities(self, spec: api.InferenceEngineSpec, access: Access) -> recipes.Identities:
        uris = dict(recipes.input_uris(spec))
        known = {}
        if spec.model.sha256:
            known["model"] = f"sha256:{spec.model.sha256}"
            del uris["model"]
        found = await asyncio.gather(*(self._stores.identity(uri, access) for uri in uris.values()))
        known |= dict(zip(uris, found, strict=True))
        return recipes.Identities(**known)

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        """The pods with all of these labels."""
        selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
        return await self._kube.list("Pod", namespace, labels=selector)

    async def plan(self, plan: api.EnginePlan) -> PlanInput:
        """Everything around a plan that is to be built."""
        namespace, name = plan.metadata.namespace, plan.metadata.name
        gpu_class, job, pods, nodes = await asyncio.gather(
            self.gpu_class(plan.spec.gpu_class),
            self._kube.get("Job", namespace, name),
            self._kube.list("Pod", namespace, labels=f"batch.kubernetes.io/job-name={name}"),
            self.nodes(),
        )
        pods = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        refusal = "" if job is None or pods else await self._refusal(namespace, str(job["metadata"]["uid"]))
        return PlanInput(plan=plan, gpu_class=gpu_class, job=job, pods=tuple(pods), nodes=nodes, refusal=refusal)

    async def _refusal(self, namespace: str, job: str) -> str:
        """What the Job controller was told when it made a pod: it says so in events alone."""
        found = await self._kube.list("Event", namespace, fields=f"involvedObject.uid={job},reason=FailedCreate")
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        return str(found[-1].get("message", "")) if found else ""

    async def finalize(self, plan: api.EnginePlan) -> FinalizeInput:
        """Everything around a plan that is being deleted."""
        namespace, name, storage = plan.metadata.namespace, plan.metadata.name, plan.spec.storage
        job, deployments, plans, secret, certificates = await asyncio.gather(
            self._kube.get("Job", namespace, name),
            self._kube.list("Deployment", namespace, labels=MANAGED_BY),
            self._kube.list("EnginePlan", namespace),
            self._secret(namespace, storage),
            self._ca(namespace, storage),
        )
        access = Access(storage=storage, credentials=secret or {}, ca_certificates=certificates)
        return FinalizeInput(
            plan=plan,
            job=job,
            users=tuple(each["metadata"]["name"] for each in deployments if served_by(each) == name),
            sharers=tuple(
                each["metadata"]["name"]
                for each in plans
                if each["metadata"]["name"] != name and each["spec"].get("planURI") == plan.spec.plan_uri
            ),
            access=None if storage.credentials_secret and secret is None else access,
        )

    async def gpu_class(self, name: str) -> api.GPUClass | None:
        """The GPUClass of that name."""
        if self._settings.gpu_classes is not None:
            return (await self._classes()).get(name)
        found = await self._kube.get("GPUClass", "", name)
        return api.read(api.GPUClass, found) if found else None

    async def _classes(self) -> Mapping[str, api.GPUClass]:
        """Every GPUClass by name: the cluster's, or those of the settings where the cluster's may not be read."""
        given = self._settings.gpu_classes
        if given is None:
            listed = await self._kube.list("GPUClass")
            return {each["metadata"]["name"]: api.read(api.GPUClass, each) for each in listed}
        return {name: api.GPUClass(metadata=api.ObjectMeta(name=name), spec=spec) for name, spec in given.items()}

    async def nodes(self) -> tuple[gpu.Node, ...] | None:
        """The cluster's nodes, at most ten seconds old: they are many, and every plan asks. None: not to be read."""
        if self._settings.gpu_classes is not None:
            return None
        if self._clock() - self._nodes[0] >= NODES_FRESH_FOR:
            found = await self._kube.list("Node")
            self._nodes = (self._clock(), tuple(_node(each) for each in found))
        return self._nodes[1]

    async def _secret(self, namespace: str, storage: api.Storage) -> Mapping[str, str] | None:
        if not storage.credentials_secret:
            return {}
        secret = await self._kube.get("Secret", namespace, storage.credentials_secret)
        if secret is None:
            return None
        wanted = (*api.CREDENTIAL_KEYS, api.SESSION_TOKEN)
        return {key: _decoded(value) for key, value in (secret.get("data") or {}).items() if key in wanted}

    async def _ca(self, namespace: str, storage: api.Storage) -> str:
        bundle = storage.ca_bundle
        if bundle is None:
            return ""
        if bundle.secret:
            secret = await self._kube.get("Secret", namespace, bundle.secret.name)
            return _decoded(((secret or {}).get("data") or {}).get(bundle.secret.key, ""))
        if bundle.config_map:
            config = await self._kube.get("ConfigMap", namespace, bundle.config_map.name)
            return str(((config or {}).get("data") or {}).get(bundle.config_map.key, ""))
        return ""


def served_by(deployment: Manifest) -> str:
    """The name of the EnginePlan that a Deployment serves."""
    return str((deployment["metadata"].get("annotations") or {}).get(names.PLAN, ""))


def _uses_files(inp: EngineInput) -> bool:
    uris = [*recipes.input_uris(inp.engine.spec).values(), inp.storage.uri if inp.storage else ""]
    return any(uri.startswith("file:") for uri in uris)


def _problem(error: StorageError | UsageError) -> Verdict:
    if isinstance(error, ObjectMissingError):
        return Verdict(state=State.STALLED, reason=Reason.OBJECT_MISSING, message=error.message)
    if isinstance(error, StorageDeniedError | UsageError):
        return Verdict(state=State.STALLED, reason=Reason.STORAGE_DENIED, message=error.message)
    return Verdict(state=State.WORKING, reason=Reason.STORAGE_UNREACHABLE, message=error.message)


def _owned_by(engine: api.InferenceEngine, manifest: Manifest) -> bool:
    return any(owner["uid"] == engine.metadata.uid for owner in manifest["metadata"].get("ownerReferences") or ())


def _node(manifest: Manifest) -> gpu.Node:
    return gpu.Node(
        name=manifest["metadata"]["name"],
        labels=manifest["metadata"].get("labels") or {},
        allocatable=(manifest.get("status") or {}).get("allocatable") or {},
    )


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
