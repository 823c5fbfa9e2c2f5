"""The whole way on this machine, by the command that a person types: the builder and the server are the real ones."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.xdist_group("up")  # on one worker, so that one builds what all of them use
DIGITS = Path(__file__).parents[3] / "examples" / "digits"
PROGRAM = [str(Path(sys.executable).with_name("enginewright"))]
MANIFEST = f"""
apiVersion: enginewright.dev/v1alpha1
kind: InferenceEngine
metadata: {{name: digits}}
spec:
  model: {{uri: {DIGITS}/model.onnx}}
  targets: [{{gpuClass: cpu, replicas: 2}}, {{gpuClass: nvidia-h200}}]
  batchSizes: [1]
  build: {{effort: fast}}
"""
SEES_THE_MODEL = (
    "import os, urllib.request as u;"
    "print(u.urlopen(os.environ['ENGINEWRIGHT_URL'] + '/v2/models/' + os.environ['ENGINEWRIGHT_MODEL']).status)"
)


def run(*words, code=0):
    made = subprocess.run([*PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=250, check=False)
    assert made.returncode == code, made.stderr
    return made


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("up") / "manifest.yaml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture(scope="module")
def store(manifest) -> Path:
    return manifest.parent / "store"


@pytest.fixture(scope="module")
def first(manifest, store):
    """The first run: it builds."""
    return run("up", "-f", manifest, "--storage", store, "--json", "--", sys.executable, "-c", SEES_THE_MODEL)


def test_the_first_run_builds_and_serves_and_says_so_in_one_json_object(first) -> None:
    told = json.loads(first.stdout)
    assert told["targets"][0]["built"] is True
    assert told["targets"][0]["result"]["outcome"] == "DONE"
    assert told["exitCode"] == 0


def test_the_command_reaches_the_model_by_its_environment(first) -> None:
    assert "\n200\n" in first.stderr


def test_a_target_that_this_machine_is_not_is_skipped_with_a_sentence(first) -> None:
    assert "nvidia-h200: there is no GPUClass of that name in" in first.stderr


def test_replicas_beyond_the_first_are_said_not_to_run(first) -> None:
    assert "2 replicas are asked for; one process is enough here" in first.stderr


@pytest.mark.usefixtures("first")
def test_the_second_run_finds_the_plan_and_builds_nothing(first, manifest, store) -> None:
    again = json.loads(run("up", "-f", manifest, "--storage", store, "--json", "--", "true").stdout)
    assert again["targets"][0]["built"] is False
    assert again["targets"][0]["digest"] == json.loads(first.stdout)["targets"][0]["digest"]


@pytest.mark.usefixtures("first")
def test_explain_finds_the_plan_that_up_built(first, manifest, store) -> None:
    told = json.loads(run("explain", "-f", manifest, "--storage", store, "--json").stdout)
    row = told["targets"][0]
    assert row["exists"] is True
    assert row["digest"] == json.loads(first.stdout)["targets"][0]["digest"]


@pytest.mark.usefixtures("first")
def test_explain_says_what_a_changed_manifest_changes(manifest, store, tmp_path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST.replace("batchSizes: [1]", "batchSizes: [2]"))
    said = run("explain", "-f", tmp_path / "m.yaml", "--storage", store).stdout
    assert "is to be built. Changed: the batch sizes (was [1], is [2])." in " ".join(said.split())


@pytest.mark.usefixtures("first")
def test_the_exit_code_is_the_commands(manifest, store) -> None:
    run("up", "-f", manifest, "--storage", store, "--", sys.executable, "-c", "raise SystemExit(7)", code=7)


@pytest.mark.usefixtures("first")
def test_a_command_that_is_not_there_ends_as_in_a_shell(manifest, store) -> None:
    run("up", "-f", manifest, "--storage", store, "--", "no-such-command", code=127)


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_command_it_serves_until_it_is_told_to_end_and_leaves_nothing(
    manifest, store, number, unused_tcp_port
) -> None:
    # A port of its own: on the usual one another test's server may answer after ours has ended.
    port = ["--port", str(unused_tcp_port)]
    words = [*PROGRAM, "up", "-f", str(manifest), "--storage", str(store), "--json", *port]
    # A session of its own, so that a signal reaches it as it does from a terminal or a supervisor, and not the tests.
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert urlopen(f"{url}/v2/health/ready", timeout=60).status == 200
        process.send_signal(number)
        assert process.wait(timeout=120) == 0
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{url}/v2/health/ready", timeout=60)


def test_a_failed_gate_ends_with_the_builders_sentence_and_leaves_no_plan(tmp_path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST + "  gates: {latency: {p99: 1us}}\n")
    failed = run("up", "-f", tmp_path / "m.yaml", "--storage", tmp_path / "s", "--json", code=12)
    assert json.loads(failed.stdout)["error"]["outcome"] == "GATE_FAILED"
    assert "p99" in json.loads(failed.stdout)["error"]["message"]
    assert not list((tmp_path / "s").rglob("engine.plan"))


@pytest.mark.usefixtures("first")
def test_a_damaged_plan_says_how_to_build_it_anew_and_fresh_does(manifest, store, tmp_path) -> None:
    mine = tmp_path / "store"
    subprocess.run(["cp", "-r", str(store), str(mine)], check=True)
    (plan,) = mine.rglob("engine.plan")
    os.truncate(plan, 1000)
    told = run("up", "-f", manifest, "--storage", mine, "--json", "--", "true", code=1)
    assert "--fresh builds it anew" in json.loads(told.stdout)["error"]["message"]
    again = run("up", "-f", manifest, "--storage", mine, "--fresh", "--json", "--", "true")
    assert json.loads(again.stdout)["targets"][0]["built"] is True


def test_a_manifest_of_other_machines_alone_is_refused(tmp_path) -> None:
    (tmp_path / "m.yaml").write_text(MANIFEST.replace("{gpuClass: cpu, replicas: 2}, ", ""))
    refused = run("up", "-f", tmp_path / "m.yaml", "--storage", tmp_path, "--json", code=2)
    assert "None of the targets of 'digits' can run on this machine" in json.loads(refused.stdout)["error"]["message"]
