"""Finds or builds the programs of a real control plane: etcd, the three Kubernetes servers, kubectl and helm.

And promtool, which no cluster needs: the chart's alerts are evaluated with it.

Run as a program (``python tests/controlplane/binaries.py``) it builds what is missing, once, and says what it is
doing. Imported, it only looks: a test run must never sit for minutes in a silent compilation. Versions and checksums
are pinned by the go.mod and go.sum files beside it, and a build is kept under the hash of those files, so a new pin
never meets an old program.

It must never leave half a build where the next run would take it for a whole one, nor let two builders work at once.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KUBERNETES = "v1.34.2"
VERSION_VARIABLE = "k8s.io/component-base/version.git"
SERVERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
MAKE_THEM = "python tests/controlplane/binaries.py"


class ControlPlaneMissing(Exception):
    """The control plane's programs are not on this machine; the message says what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One `go build`: the packages of one Go module that are compiled together.

    `minutes` is what it took on 2 cores with an empty Go cache, for the progress line only.
    """

    name: str
    module: Path
    programs: Mapping[str, str]
    ldflags: str
    minutes: float
    title: str
    tags: str = ""

    def command(self, target: Path) -> list[str]:
        tags = ["-tags", self.tags] if self.tags else []
        flags = ["-trimpath", "-buildvcs=false", *tags, "-ldflags", self.ldflags]
        return ["go", "build", *flags, "-o", f"{target}{os.sep}"]

    def folder(self) -> Path:
        """Where this build is kept: a hash over everything that decides its bytes."""
        digest = hashlib.sha256()
        for part in ("go.mod", "go.sum"):
            digest.update((self.module / part).read_bytes())
        digest.update(
            " ".join([*self.command(Path()), *self.programs.values(), platform.system(), platform.machine()]).encode()
        )
        return cache_folder() / f"{self.name}-{digest.hexdigest()[:16]}"


KUBERNETES_LDFLAGS = (
    f"-s -w -X {VERSION_VARIABLE}Version={KUBERNETES} -X {VERSION_VARIABLE}Major=1 -X {VERSION_VARIABLE}Minor=34"
)
KUBERNETES_BUILD = Build(
    name="kubernetes",
    module=HERE,
    programs={name: f"k8s.io/kubernetes/cmd/{name}" for name in SERVERS if name.startswith("kube-")},
    ldflags=KUBERNETES_LDFLAGS,
    minutes=5,
    title=f"kube-apiserver, kube-controller-manager, kube-scheduler {KUBERNETES}",
)
ETCD_BUILD = Build(
    name="etcd",
    module=HERE / "etcd",
    programs={"etcd": "go.etcd.io/etcd/server/v3"},
    ldflags="-s -w",
    minutes=0.5,
    title="etcd v3.6.14",
)
HELM_BUILD = Build(
    name="helm",
    module=HERE / "helm",
    programs={"helm": "helm.sh/helm/v3/cmd/helm"},
    ldflags="-s -w -X helm.sh/helm/v3/internal/version.version=v3.19.0",
    minutes=1.5,
    title="helm v3.19.0",
)
# Only where the machine has no kubectl of its own: it shares most packages with the servers, so it comes after them.
KUBECTL_BUILD = Build(
    name="kubectl",
    module=HERE,
    programs={"kubectl": "k8s.io/kubernetes/cmd/kubectl"},
    ldflags=KUBERNETES_LDFLAGS,
    minutes=0.7,
    title=f"kubectl {KUBERNETES}",
)
BUILDS = (KUBERNETES_BUILD, ETCD_BUILD, HELM_BUILD, KUBECTL_BUILD)
PROMTOOL_BUILD = Build(
    name="promtool",
    module=HERE / "promtool",
    programs={"promtool": "github.com/prometheus/prometheus/cmd/promtool"},
    ldflags="-s -w",
    minutes=2,
    title="promtool v0.311.0",
    tags="remove_all_sd",  # without the clients of twenty clouds, whose machines Prometheus would find
)


def cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "enginewright" / "controlplane"


def find() -> dict[str, Path]:
    """The path of every program by its name; raises ControlPlaneMissing where one is absent. Builds nothing."""
    found = {name: path for build in BUILDS for name in build.programs if (path := look_for(name, build)) is not None}
    missing = [name for build in BUILDS for name in build.programs if name not in found]
    if missing:
        raise ControlPlaneMissing(
            f"the control plane's programs {', '.join(missing)} are not on this machine: run `{MAKE_THEM}`"
            + ("" if shutil.which("go") else ", which needs Go 1.21 or newer from https://go.dev/dl")
            + ", or point KUBEBUILDER_ASSETS at a folder that has them"
        )
    return found


def look_for(name: str, build: Build) -> Path | None:
    """KUBEBUILDER_ASSETS first, then (kubectl alone) PATH, then the cache.

    A folder of assets counts for the servers only when it holds all four: a controller manager newer than its API
    server is not supported.
    """
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS") or os.devnull)
    wanted = SERVERS if name in SERVERS else (name,)
    if all((assets / each).is_file() for each in wanted):
        return assets / name
    if name == "kubectl" and (on_path := shutil.which("kubectl")):
        return Path(on_path)
    built = build.folder() / name
    return built if built.is_file() else None


def build_missing(builds: Sequence[Build] = BUILDS) -> dict[str, Path]:
    """Builds those that are not there, then returns what `find` finds."""
    missing = [build for build in builds if any(look_for(name, build) is None for name in build.programs)]
    if missing and shutil.which("go") is None:
        return find()
    for build in missing:
        with only_builder():
            if not build.folder().is_dir():  # another builder may have made it while this one waited
                compile_into_cache(build)
    return find()


def compile_into_cache(build: Build) -> None:
    """One `go build` into a temporary folder that is renamed only when all of it is there."""
    say(f"building {build.title} (about {build.minutes:g} minutes on 2 cores, once) ...")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache_folder()) as scratch:
        target = Path(scratch) / "bin"
        target.mkdir()
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
        command = [*build.command(target), *build.programs.values()]
        done = subprocess.run(command, cwd=build.module, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise ControlPlaneMissing(
                f"{build.title} could not be built: `go build` in {build.module} ended with exit code {done.returncode}"
                f" and said: {done.stderr.strip()[-2000:]}"
            )
        for name, package in build.programs.items():
            give_name(target, name, package)
        target.rename(build.folder())
    say(f"built {build.title} in {time.monotonic() - began:.0f} s: {build.folder()}")


def give_name(target: Path, name: str, package: str) -> None:
    """`go build` names a program after its package's last folder that is not a version: etcd's is `server`."""
    parts = [part for part in package.split("/") if not part.startswith("v3")]
    produced = target / parts[-1]
    if produced.name != name:
        produced.rename(target / name)


@contextmanager
def only_builder() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the control plane to end ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    sys.stderr.write(f"controlplane: {line}\n")
    sys.stderr.flush()


def must_be_there() -> bool:
    """In continuous integration a missing control plane is a failure; on a person's machine the tests are skipped."""
    return os.environ.get("CI", "").lower() in {"true", "1"}


def main() -> int:
    try:
        found = build_missing((*BUILDS, PROMTOOL_BUILD))
    except ControlPlaneMissing as missing:
        say(f"{'ERROR' if must_be_there() else 'THE CLUSTER TESTS WILL BE SKIPPED'}: {missing}")
        return 1 if must_be_there() else 0
    say("ready: " + ", ".join(f"{name} ({path.parent})" for name, path in sorted(found.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
