"""All reads: what a reconciliation needs to know, fetched fresh and frozen into one Input before anything is decided.

Nothing here writes, and nothing here judges: a Secret that is not there is a fact for policies.py. A Secret is read
only where a spec names it.
"""

import asyncio
import base64
import binascii
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from enginewright_operator import api, gpu, neighbours, recipes
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.conditions import Reason, State, Verdict
from enginewright_operator.errors import ClusterError
from enginewright_operator.inputs import Answer, Inputs, Question, question
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names, surroundings
from enginewright_operator.settings import Settings
from enginewright_operator.signing_keys import SigningKeys
from enginewright_operator.stores import Access, Stores
from enginewright_operator.watched import WATCHED, Put
from enginewright_runtime.errors import ObjectMissingError, StorageDeniedError, StorageError, UsageError

logger = logging.getLogger(__name__)

NODES_FRESH_FOR = 10.0
LOG_LINES = 40  # of a build's log


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInput:
    """What is known of one target of an engine."""

    target: api.Target
    gpu_class: api.GPUClass | None
    deployment: Manifest | None
    row: api.TargetStatus | None
    canary: Manifest | None = None  # the Deployment of the plan that is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInput:
    """What is known of an InferenceEngine. `plans` are those that it owns, by name."""

    engine: api.InferenceEngine
    storage: api.Storage | None
    targets: tuple[TargetInput, ...]
    plans: Mapping[str, api.EnginePlan]
    gpu_classes: tuple[str, ...] = ()  # the names of all that there are
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read
    stray_deployments: tuple[Manifest, ...] = ()
    gateways: bool = True  # whether the cluster knows HTTPRoutes, where one is wanted
    surroundings: tuple[Manifest, ...] = ()  # what the engine owns of the kinds that stand around its pods
    in_the_way: tuple[str, ...] = ()  # objects that bear a name which ours would have, and are somebody else's
    credential_keys: frozenset[str] | None = None  # of the Secret that storage names; None if there is no such Secret
    missing_keys: tuple[str, ...] = ()  # Secrets and ConfigMaps of the operator's signing settings that are not there
    identities: recipes.Identities | None = None
    storage_problem: Verdict | None = None
    file_uris_allowed: bool = False
    plugins_allowed: bool = False

    @property
    def owned(self) -> tuple[api.EnginePlan, ...]:
        """The plans that this engine keeps alive."""
        return tuple(self.plans.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInput:
    """What is known of an EnginePlan. `pods` are those of its Job, the oldest first."""

    plan: api.EnginePlan
    gpu_class: api.GPUClass | None = None
    job: Manifest | None = None
    pods: tuple[Manifest, ...] = ()
    refusal: str = ""  # why the Job's pod could not be made, in the words of its last event; asked where there is none
    nodes: tuple[gpu.Node, ...] | None = ()  # None: they may not be read
    log: str = ""  # the last lines of the build that runs, or has just failed


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalizeInput:
    """What is known of an EnginePlan that is being deleted."""

    plan: api.EnginePlan
    job: Manifest | None
    users: tuple[str, ...]  # Deployments and pods that still serve it
    sharers: tuple[str, ...]  # other EnginePlans whose files are the same
    access: Access | None = field(repr=False, default=None)  # None: the Secret is gone


def owns(engine: api.InferenceEngine, plan: api.EnginePlan) -> bool:
    """Whether the engine is among the plan's owners."""
    return any(owner.uid == engine.metadata.uid for owner in plan.metadata.owner_references)


class Gatherer:
    """Reads the cluster and the stores."""

    def __init__(
        self, kube: CachedKube, stores: Stores, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self._inputs = Inputs()
        self._keys = SigningKeys(kube, settings, clock=clock)
        self._nodes: tuple[float, tuple[gpu.Node, ...]] = (-NODES_FRESH_FOR, ())

    async def kinds_are_served(self) -> bool:
        """Whether the API server knows our kinds by now: the chart makes the CRDs and the operator at once."""
        found = await self._kube.discover(api.API_VERSION)
        return {api.InferenceEngine.PLURAL, api.EnginePlan.PLURAL, api.GPUClass.PLURAL} <= found

    async def relist(self) -> int:
        """Compare the cache with the API server; returns of how many objects the news had not come."""
        missed = 0
        for kind, how in WATCHED.items():
            if how.cluster_scoped and self._settings.gpu_classes is not None:
                continue  # it may not be read
            missed += await self._kube.relist(kind, () if how.cluster_scoped else self._settings.watch_namespaces)
        return missed

    async def manifest(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object as it is in the cluster."""
        return await self._kube.get(kind, namespace, name)

    async def engine(self, engine: api.InferenceEngine) -> EngineInput:
        """Everything around an engine."""
        namespace = engine.metadata.namespace
        storage = engine.spec.storage or self._settings.default_storage
        owned = ("owner", engine.metadata.uid)
        plans, deployments, classes, nodes = await asyncio.gather(
            self._kube.find("EnginePlan", namespace, where=owned),
            self._kube.find("Deployment", namespace, where=owned),
            self._classes(),
            self.nodes(),
        )
        mine = {each["metadata"]["name"]: each for each in deployments}
        rows = {row.gpu_class: row for row in (engine.status.targets if engine.status else ())}
        targets = tuple(
            TargetInput(
                target=target,
                gpu_class=classes.get(target.gpu_class),
                deployment=mine.pop(names.deployment_name(engine.metadata.name, target.gpu_class), None),
                row=rows.get(target.gpu_class),
                canary=mine.pop(
                    names.deployment_name(engine.metadata.name, target.gpu_class, names.Track.CANARY), None
                ),
            )
            for target in engine.spec.targets
        )
        canaries = engine.spec.rollout.strategy is api.Strategy.CANARY
        missing = [
            ("Deployment", names.deployment_name(engine.metadata.name, each.target.gpu_class, track))
            for each in targets
            for track, there in ((names.Track.STABLE, each.deployment), (names.Track.CANARY, each.canary))
            if there is None and (track is names.Track.STABLE or canaries)
        ]
        around = surroundings.surroundings(engine, self._settings)
        missing += [(each["kind"], each["metadata"]["name"]) for each in around]
        owned_plans = {plan.metadata.name: plan for plan in (api.read(api.EnginePlan, each) for each in plans)}
        gathered = EngineInput(
            engine=engine,
            storage=storage,
            targets=targets,
            plans=owned_plans,
            gpu_classes=tuple(sorted(classes)),
            nodes=nodes,
            stray_deployments=tuple(mine.values()),
            gateways=await neighbours.gateways(self._kube, engine),
            surroundings=await neighbours.surroundings(self._kube, engine),
            in_the_way=await neighbours.in_the_way(self._kube, engine, missing, owned_plans.values()),
            missing_keys=await self._keys.missing(namespace),
            file_uris_allowed=self._settings.allow_file_uris,
            plugins_allowed=self._settings.allow_plugins,
        )
        return await self._with_identities(gathered)

    async def _with_identities(self, inp: EngineInput) -> EngineInput:
        """The same with what the store says about the inputs, where it may be asked."""
        spec, storage, namespace = inp.engine.spec, inp.storage, inp.engine.metadata.namespace
        if storage is None or spec.paused or (_uses_files(inp) and not inp.file_uris_allowed):
            return inp
        asked = _questions(inp.engine, storage)
        known = self._inputs.known(asked.values())
        if known is not None:
            opened = frozenset(api.CREDENTIAL_KEYS)  # with them the store was asked
            return replace(inp, credential_keys=opened, identities=_identities(spec, asked, known))
        secret = await self._secret(namespace, storage)
        keys = None if secret is None else frozenset(secret)
        inp = replace(inp, credential_keys=keys)
        if storage.credentials_secret and not set(api.CREDENTIAL_KEYS) <= (keys or set()):
            return inp
        access = Access(storage=storage, credentials=secret or {}, ca_certificates=await self._ca(namespace, storage))
        try:
            found = await asyncio.gather(*(self._stores.identity(each.uri, access) for each in asked.values()))
        except (StorageError, UsageError) as error:
            return replace(inp, storage_problem=_problem(error))
        known = dict(zip(asked.values(), found, strict=True))
        for each, answer in known.items():
            self._inputs.remember(each, answer)
        return replace(inp, identities=_identities(spec, asked, known))

    async def poll_inputs(self, put: Put, *, within: float) -> int:
        """Ask the stores for the versions of all engines' inputs, spread over so many seconds; put whose is new."""
        asking: dict[Question, list[tuple[str, str]]] = defaultdict(list)
        async for manifest in self._kube.each("InferenceEngine"):
            engine = api.read(api.InferenceEngine, manifest)
            storage = engine.spec.storage or self._settings.default_storage
            if storage is not None and not engine.spec.paused:
                for each in _questions(engine, storage).values():
                    asking[each].append((engine.metadata.namespace, engine.metadata.name))
        return await self._inputs.poll(
            asking, self._ask, lambda namespace, name: put("InferenceEngine", namespace, name), within=within
        )

    async def access(self, namespace: str, storage: api.Storage) -> Access:
        """How to reach a storage as a namespace does. Raises StorageError where its Secret is not there."""
        secret = await self._secret(namespace, storage)
        if secret is None:
            raise StorageError(f"The Secret {storage.credentials_secret} is not in the namespace {namespace}.")
        return Access(storage=storage, credentials=secret, ca_certificates=await self._ca(namespace, storage))

    async def _ask(self, asked: Question) -> Answer:
        try:
            access = await self.access(asked.namespace, api.Storage.model_validate_json(asked.storage))
            return await self._stores.identity(asked.uri, access)
        except (StorageError, UsageError) as error:
            return error

    async def plan_named(self, namespace: str, name: str) -> api.EnginePlan | None:
        """The EnginePlan of that name, whoever owns it."""
        found = await self._kube.get("EnginePlan", namespace, name)
        return api.read(api.EnginePlan, found) if found else None

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
        log = await self._log(namespace, pods[-1]) if pods else ""
        return PlanInput(
            plan=plan, gpu_class=gpu_class, job=job, pods=tuple(pods), nodes=nodes, refusal=refusal, log=log
        )

    async def _log(self, namespace: str, pod: Manifest) -> str:
        """The last lines of a build that runs or has failed; it is only shown, so none is as good as an error."""
        if (pod.get("status") or {}).get("phase") not in ("Running", "Failed"):
            return ""
        try:
            return await self._kube.log(namespace, pod["metadata"]["name"], lines=LOG_LINES)
        except ClusterError as error:
            logger.debug("No log of the build: %s", error)
            return ""

    async def _refusal(self, namespace: str, job: str) -> str:
        """What the Job controller was told when it made a pod: it says so in events alone."""
        found = await self._kube.list("Event", namespace, fields=f"involvedObject.uid={job},reason=FailedCreate")
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        return str(found[-1].get("message", "")) if found else ""

    async def under_way(self, plan: api.EnginePlan) -> int:
        """How many builds of its namespace run on the plan's GPU class."""
        where = ("class", names.label(plan.spec.gpu_class))
        return sum(not builds_ended(job) for job in await self._kube.find("Job", plan.metadata.namespace, where=where))

    async def finalize(self, plan: api.EnginePlan) -> FinalizeInput:
        """Everything around a plan that is being deleted."""
        namespace, name, storage = plan.metadata.namespace, plan.metadata.name, plan.spec.storage
        served = {names.DIGEST_LABEL: plan.spec.digest[: names.DIGEST_LABEL_LENGTH]}
        job, deployments, pods, plans, secret, certificates = await asyncio.gather(
            self._kube.get("Job", namespace, name),
            self._kube.find("Deployment", namespace, where=("plan", name)),
            self.pods(namespace, served),
            self._kube.find("EnginePlan", namespace, where=("file", plan.spec.plan_uri)),
            self._secret(namespace, storage),
            self._ca(namespace, storage),
        )
        access = Access(storage=storage, credentials=secret or {}, ca_certificates=certificates)
        return FinalizeInput(
            plan=plan,
            job=job,
            users=tuple(each["metadata"]["name"] for each in (*deployments, *filter(_runs, pods))),
            sharers=tuple(each["metadata"]["name"] for each in plans if each["metadata"]["name"] != name),
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
            listed = await self._kube.find("GPUClass")
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


def _questions(engine: api.InferenceEngine, storage: api.Storage) -> dict[str, Question]:
    """What a store has to be asked for an engine, by the input's name in Identities."""
    asked = dict(recipes.input_uris(engine.spec))
    if engine.spec.model.sha256:
        del asked["model"]
    return {name: question(engine.metadata.namespace, storage, uri) for name, uri in asked.items()}


def _identities(
    spec: api.InferenceEngineSpec, asked: Mapping[str, Question], answers: Mapping[Question, str]
) -> recipes.Identities:
    given = {"model": f"sha256:{spec.model.sha256}"} if spec.model.sha256 else {}
    return recipes.Identities.of(given | {name: answers[each] for name, each in asked.items()})


def builds_ended(job: Manifest) -> bool:
    """Whether a build Job has ended, well or not."""
    rows = (job.get("status") or {}).get("conditions") or ()
    return any(row["type"] in ("Complete", "Failed") and row["status"] == "True" for row in rows)


def _runs(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _uses_files(inp: EngineInput) -> bool:
    uris = [*recipes.input_uris(inp.engine.spec).values(), inp.storage.uri if inp.storage else ""]
    return any(uri.startswith("file:") for uri in uris)


def _problem(error: StorageError | UsageError) -> Verdict:
    if isinstance(error, ObjectMissingError):
        return Verdict(state=State.STALLED, reason=Reason.OBJECT_MISSING, message=error.message)
    if isinstance(error, StorageDeniedError | UsageError):
        return Verdict(state=State.STALLED, reason=Reason.STORAGE_DENIED, message=error.message)
    return Verdict(state=State.WORKING, reason=Reason.STORAGE_UNREACHABLE, message=error.message)


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
