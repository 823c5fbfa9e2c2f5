"""The pure parts: path substitution, variable expansion, probe thresholds and the search for programs."""

from pathlib import Path

import pytest
from controlplane import binaries, probes
from controlplane.pod_paths import PathMap, expand

PATHS = PathMap({"/data": Path("/local/volume"), "/data/deep": Path("/local/deep"), "/tmp": Path("/local/data")})


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("/data", "/local/volume"),
        ("--plan=/data/x.plan", "--plan=/local/volume/x.plan"),
        ("file:///data/x", "file:///local/volume/x"),
        ("/data/deep/x", "/local/deep/x"),
        ("/tmp/data", "/local/data/data"),
        ("/database", "/database"),
        ("s3://bucket/data/x", "s3://bucket/data/x"),
        ("http://data:80/data", "http://data:80/data"),
        ("/var/data", "/var/data"),
    ],
)
def test_only_whole_leading_paths_are_mapped(text, mapped):
    assert PATHS(text) == mapped


@pytest.mark.parametrize(("text", "expanded"), [("$(A)", "1"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("$A", "$A")])
def test_variables_expand_as_kubernetes_does(text, expanded):
    assert expand(text, {"A": "1"}) == expanded


async def test_a_probe_fails_only_after_its_threshold_of_periods():
    results = iter([True, False, False, False])

    async def attempt():
        return next(results)

    found = []
    async for verdict in probes.verdicts({"periodSeconds": 0.01, "failureThreshold": 3}, attempt):
        found.append(verdict)
        if len(found) == 2:
            break

    assert found == [True, False]
    assert next(results, "all used") == "all used"


@pytest.fixture
def empty_machine(monkeypatch, tmp_path):
    """No Go, no kubectl, no assets, no cache."""
    for name in ("KUBEBUILDER_ASSETS", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.usefixtures("empty_machine")
def test_a_machine_without_go_is_told_what_is_missing_and_what_to_do():
    with pytest.raises(binaries.ControlPlaneMissing) as missing:
        binaries.build_missing()

    assert "kube-apiserver" in str(missing.value)
    assert "python tests/controlplane/binaries.py" in str(missing.value)
    assert "Go 1.21" in str(missing.value)


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_missing_programs_fail_only_in_continuous_integration(empty_machine, monkeypatch, capsys, ci, code):
    monkeypatch.setenv("CI", ci)

    assert binaries.main() == code
    assert ("WILL BE SKIPPED" in capsys.readouterr().err) == (code == 0)


def test_assets_with_half_of_the_servers_are_not_mixed_with_others(empty_machine, monkeypatch):
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (empty_machine / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(empty_machine))

    with pytest.raises(binaries.ControlPlaneMissing, match="etcd, ") as missing:
        binaries.find()

    assert "kubectl" not in str(missing.value).partition(" are not")[0]


def test_an_interrupted_build_is_not_taken_for_a_whole_one(empty_machine, monkeypatch):
    tools = empty_machine / "nothing"
    tools.mkdir()
    go = tools / "go"
    go.write_text("#!/bin/sh\n/bin/echo half > \"$7/etcd\"\n/bin/echo 'no space left on device' >&2\nexit 1\n")
    go.chmod(0o755)

    with pytest.raises(binaries.ControlPlaneMissing, match="no space left on device"):
        binaries.build_missing()

    assert [path.name for path in binaries.cache_folder().iterdir()] == [".lock"]
    with pytest.raises(binaries.ControlPlaneMissing):
        binaries.find()
