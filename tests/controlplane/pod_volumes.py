"""Gives a Pod's volumes local folders and its containers their environment, from ConfigMaps, Secrets and fields.

What a kubelet would wait for (a Secret that is not there yet) raises NotYet; what this stand-in does not know raises
Unsupported, so that no test passes on a volume that was silently left out.
"""

import base64
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from controlplane.pod_paths import PathMap, expand
from kubernetes.utils import parse_quantity

Json = dict[str, Any]
SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class NotYet(Exception):
    """Something the Pod refers to does not exist (yet); the kubelet would try again."""


class Unsupported(Exception):
    """The Pod asks for something that this stand-in for a kubelet does not do."""


class Lookup(Protocol):
    """What a Pod reads from the cluster; None means that there is no such object."""

    async def data(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        """The keys of a `configmaps` or `secrets` object."""

    async def token(self, pod: Json, seconds: int, audience: str | None) -> str:
        """A token of the Pod's service account."""


def decoded(item: Json, kind: str) -> dict[str, bytes]:
    """The bytes of a ConfigMap or Secret by key."""
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in (item.get("data") or {}).items()}
    texts = {key: value.encode() for key, value in (item.get("data") or {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in (item.get("binaryData") or {}).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`reported` goes into the Pod's status, `bound` is where its process listens (see README.md, the trap)."""

    reported: str
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSources:
    """All that volumes and environments are made from."""

    pod: Json
    address: Address
    lookup: Lookup

    async def data(self, kind: str, reference: Json, name: str) -> dict[str, bytes]:
        found = await self.lookup.data(kind, self.pod["metadata"]["namespace"], name)
        if found is None and not reference.get("optional"):
            raise NotYet(f'{kind[:-1].replace("map", "Map")} "{name}" not found')
        return found or {}

    def field(self, path: str) -> str:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        if subscript := SUBSCRIPT.fullmatch(path):
            return (metadata.get(subscript.group(1)) or {}).get(subscript.group(2), "")
        known = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": metadata["uid"],
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.podIP": self.address.bound,
            "status.podIPs": self.address.bound,
            "status.hostIP": "127.0.0.1",
        }
        if path not in known:
            raise Unsupported(f"fieldRef {path} is not known to this node agent")
        return known[path]

    async def volumes(self, folder: Path) -> dict[str, Path]:
        """The local folder of each volume by name."""
        local = {}
        for volume in self.pod["spec"].get("volumes") or []:
            target = folder / volume["name"]
            if "hostPath" in volume:
                target = Path(volume["hostPath"]["path"])
            else:
                target.mkdir(parents=True, exist_ok=True)
                for path, content in (await self._files(volume)).items():
                    (target / path).parent.mkdir(parents=True, exist_ok=True)
                    (target / path).write_bytes(content)
            local[volume["name"]] = target
        return local

    async def _files(self, source: Json) -> dict[str, bytes]:
        """The files of one volume, or of one source of a projected volume, by relative path."""
        if "emptyDir" in source:
            return {}
        if secret := source.get("secret"):
            return chosen(await self.data("secrets", secret, secret.get("secretName") or secret["name"]), secret)
        if config_map := source.get("configMap"):
            return chosen(await self.data("configmaps", config_map, config_map["name"]), config_map)
        if "downwardAPI" in source:
            items = source["downwardAPI"].get("items") or []
            return {item["path"]: self.field(item["fieldRef"]["fieldPath"]).encode() for item in items}
        if token := source.get("serviceAccountToken"):
            seconds = token.get("expirationSeconds", 3600)
            return {token["path"]: (await self.lookup.token(self.pod, seconds, token.get("audience"))).encode()}
        if projected := source.get("projected"):
            files: dict[str, bytes] = {}
            for part in projected.get("sources") or []:
                files |= await self._files(part)
            return files
        kind = next((key for key in source if key != "name"), "?")
        raise Unsupported(f"volume {source.get('name', '')} of kind {kind} is not known to this node agent")

    async def environment(self, container: Json, paths: PathMap) -> dict[str, str]:
        """The container's variables, with `$(NAME)` expanded and paths mapped. Values of Secrets stay as they are."""
        variables: dict[str, str] = {}
        for source in container.get("envFrom") or []:
            kind, reference = (
                ("secrets", source["secretRef"]) if "secretRef" in source else ("configmaps", source["configMapRef"])
            )
            found = await self.data(kind, reference, reference["name"])
            variables |= {source.get("prefix", "") + key: value.decode() for key, value in found.items()}
        for entry in container.get("env") or []:
            value = await self._value(container, entry, variables, paths)
            if value is not None:
                variables[entry["name"]] = value
        return variables

    async def _value(self, container: Json, entry: Json, so_far: dict[str, str], paths: PathMap) -> str | None:
        source = entry.get("valueFrom")
        if not source:
            return paths(expand(entry.get("value") or "", so_far))
        if field := source.get("fieldRef"):
            return self.field(field["fieldPath"])
        if resource := source.get("resourceFieldRef"):
            return resource_value(container, resource)
        for kind, reference in (("secrets", source.get("secretKeyRef")), ("configmaps", source.get("configMapKeyRef"))):
            if reference:
                found = await self.data(kind, reference, reference["name"])
                if reference["key"] not in found and not reference.get("optional"):
                    raise NotYet(f"couldn't find key {reference['key']} in {kind} {reference['name']}")
                value = found[reference["key"]].decode() if reference["key"] in found else None
                return paths(value) if value is not None and kind == "configmaps" else value
        raise Unsupported(f"environment variable {entry['name']} has a source not known to this node agent")


def chosen(found: dict[str, bytes], source: Json) -> dict[str, bytes]:
    """All keys, or those that `items` names, under the paths it gives them."""
    if not source.get("items"):
        return found
    missing = [item["key"] for item in source["items"] if item["key"] not in found]
    if missing and not source.get("optional"):
        raise NotYet(f"references non-existent secret or configMap key: {', '.join(missing)}")
    return {item["path"]: found[item["key"]] for item in source["items"] if item["key"] in found}


def resource_value(container: Json, reference: Json) -> str:
    """`limits.memory` and the like in whole multiples of the divisor, rounded up; 0 where the container sets none."""
    kind, _, name = reference["resource"].partition(".")
    amount = ((container.get("resources") or {}).get(kind) or {}).get(name, "0")
    divisor = reference.get("divisor") or "1"
    return str(math.ceil(parse_quantity(amount) / (parse_quantity(divisor) or 1)))
