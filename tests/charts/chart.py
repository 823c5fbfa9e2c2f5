"""Renders the chart through the real `helm template` and hands back what came out, for the tests beside it."""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from controlplane import binaries

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "enginewright"
RELEASE, NAMESPACE = "ew", "enginewright-system"
# A helm that was built by `go install` believes in Kubernetes 1.20 when it has no cluster to ask.
KUBERNETES = "1.34.2"

Object = dict[str, Any]

# The CRDs are long, and PyYAML in C reads them twenty times as fast; it is not in every build of PyYAML.
FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def helm() -> str:
    """The helm of this machine."""
    return program("helm", binaries.HELM_BUILD, "nothing of the chart is tested")


def program(name: str, build: binaries.Build, without: str) -> str:
    """A program of this machine: PATH first, then what `make test` built. Skips the test where there is none."""
    found = shutil.which(name) or binaries.look_for(name, build)
    if found:
        return str(found)
    message = f"{name} is not on this machine, so {without}: run `{binaries.MAKE_THEM}`"
    if binaries.must_be_there():
        pytest.fail(message, pytrace=False)
    say_once(f"THE CHART'S TESTS ARE SKIPPED: {message}")
    pytest.skip(message)


@functools.cache
def say_once(line: str) -> None:
    sys.stderr.write(f"\n{line}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Render:
    """What one rendering gave: every object, in the order of the output."""

    objects: tuple[Object, ...]

    def all(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str = "") -> Object:
        found = [each for each in self.all(kind) if name in ("", each["metadata"]["name"])]
        assert len(found) == 1, f"wanted one {kind} {name}, got {[each['metadata']['name'] for each in found]}"
        return found[0]

    def environment(self) -> dict[str, Any]:
        """The operator's variables: a literal value, or the `valueFrom` it comes from."""
        container = self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def run(values: Mapping[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`helm template` with these values; the exit code is the caller's to judge."""
    return _run(helm(), str(CHART), json.dumps(values), arguments)


@functools.cache  # most tests look at the same few renderings
def _run(program: str, folder: str, values: str, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [program, "template", RELEASE, folder, "--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    return subprocess.run(
        [*command, "--values", "-", *arguments], input=values, capture_output=True, text=True, check=False
    )


def render(values: Mapping[str, Any] | None = None, *arguments: str) -> Render:
    """What `helm template` makes of these values; the test fails with helm's own words if it refuses them."""
    done = run(values or {}, *arguments)
    assert done.returncode == 0, done.stderr
    return Render(objects=tuple(each for each in yaml.load_all(done.stdout, FAST_LOADER) if each))


def refusal(values: Mapping[str, Any]) -> str:
    """What helm says when it refuses these values; the test fails if it takes them."""
    done = run(values)
    assert done.returncode != 0, "helm took values that it should refuse"
    return done.stderr


def rules(render: Render) -> Iterator[tuple[str, Object]]:
    """Every rule of every role, with the role's kind and name."""
    for each in (*render.all("ClusterRole"), *render.all("Role")):
        for rule in each["rules"]:
            yield f"{each['kind']} {each['metadata']['name']}", rule
