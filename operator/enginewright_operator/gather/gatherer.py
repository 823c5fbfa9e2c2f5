"""Reads the cluster, and has the stores asked, for one reconciliation at a time."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from enginewright_operator import api, recipes
from enginewright_operator.cached_kube import CachedKube
from enginewright_operator.errors import ClusterError
from enginewright_operator.gather import neighbours
from enginewright_operator.gather.credentials import Credentials
from enginewright_operator.gather.facts import EngineInput, FinalizeInput, PlanInput, TargetInput, builds_ended
from enginewright_operator.gather.machines import Machines
from enginewright_operator.gather.signing_keys import SigningKeys
from enginewright_operator.gather.versions import Versions
from enginewright_operator.kube import Manifest
from enginewright_operator.render import names, surroundings
from enginewright_operator.settings import Settings
from enginewright_operator.stores import Access, Stores
from enginewright_operator.watched import WATCHED, Put, WatchedKind

logger = logging.getLogger(__name__)

LOG_LINES = 40  # of a build's log


class Gatherer:
    """Reads the cluster and the stores."""

    def __init__(
        self,
        kube: CachedKube,
        stores: Stores,
        settings: Settings,
        *,
        kinds: Mapping[str, WatchedKind] = WATCHED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._kinds = kinds
        self._settings = settings
        self._machines = Machines(kube, settings, clock=clock)
        self._credentials = Credentials(kube, clock=clock)
        self._versions = Versions(kube, self._credentials, stores, settings)
        self._keys = SigningKeys(kube, settings, clock=clock)

    async def relist(self) -> int:
        """Compare the cache with the API server; returns of how many objects the news had not come."""
        missed = 0
        for kind, how in self._kinds.items():
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
            self._machines.gpu_classes(),
            self._machines.nodes(),
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
        return await self._versions.of_engine(gathered)

    def knows_inputs(self, engine: api.InferenceEngine) -> bool:
        """Whether no store needs to be asked for an engine: another one's inputs were the same."""
        return self._versions.known(engine)

    async def poll_inputs(self, put: Put, *, within: float) -> int:
        """Ask the stores for the versions of all engines' inputs, spread over so many seconds; put whose is new."""
        return await self._versions.poll(put, within=within)

    async def poll_nodes(self, put: Put) -> int:
        """Look at the nodes anew; put the engines whose GPUs are others. Returns of how many classes that is so."""
        return await self._machines.poll(put)

    async def access(self, namespace: str, storage: api.Storage) -> Access:
        """How to reach a storage as a namespace does. Raises StorageError where its Secret is not there."""
        return await self._credentials.access(namespace, storage)

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
            self._machines.gpu_class(plan.spec.gpu_class),
            self._kube.get("Job", namespace, name),
            self._kube.list("Pod", namespace, labels=f"batch.kubernetes.io/job-name={name}"),
            self._machines.nodes(),
        )
        pods = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
        refusal = "" if job is None or pods else await self._refusal(namespace, str(job["metadata"]["uid"]))
        log = await self._log(namespace, pods[-1]) if pods else ""
        return PlanInput(
            plan=plan,
            gpu_class=recipes.class_of(plan, gpu_class) or gpu_class,
            job=job,
            pods=tuple(pods),
            nodes=nodes,
            refusal=refusal,
            log=log,
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

    async def is_paused(self, plan: api.EnginePlan) -> bool:
        """Whether all engines that want the plan are paused; False where there is none."""
        paused = False
        for owner in plan.metadata.owner_references:
            engine = await self._kube.get(owner.kind, plan.metadata.namespace, owner.name)
            if engine is not None and not engine["spec"].get("paused"):
                return False
            paused = paused or engine is not None
        return paused

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
            self._credentials.secret(namespace, storage),
            self._credentials.certificates(namespace, storage),
        )
        access = Access(storage=storage, credentials=secret or {}, ca_certificates=certificates)
        return FinalizeInput(
            plan=plan,
            job=job,
            users=tuple(each["metadata"]["name"] for each in (*deployments, *filter(_runs, pods))),
            sharers=tuple(each["metadata"]["name"] for each in plans if each["metadata"]["name"] != name),
            access=None if storage.credentials_secret and secret is None else access,
        )


def _runs(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
