"""Everything that people get wrong, through the real command line: a sentence that says what, got, wanted, what to do.

The fixture `refused` holds the rest: the exit code is the outcome, one sentence and no traceback, with --json one
object on standard output, and nothing written.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.engine import available
from enginewright_runtime.plan import container
from enginewright_runtime.plan.outcome import Outcome

Refused = Callable[..., str]
BUILD = ("build", "good.onnx", "-o", "new.plan", "--effort", "fast")


# Models


def test_a_missing_model(refused: Refused) -> None:
    refused(Outcome.BAD_MODEL, ("build", "none.onnx", "-o", "x.plan"), "none.onnx", "does not exist", "give the path")


def test_an_empty_model_is_named_as_the_person_named_it(refused: Refused, here: Path) -> None:
    (here / "empty.onnx").touch()
    words = ("build", "empty.onnx", "-o", "x.plan")
    sentence = refused(Outcome.BAD_MODEL, words, f"{here}/empty.onnx is empty", "0 bytes", "wanted an ONNX file")
    assert "temporary" not in sentence


def test_a_truncated_model(refused: Refused, here: Path) -> None:
    (here / "cut.onnx").write_bytes((here / "good.onnx").read_bytes()[:60])
    words = ("build", "cut.onnx", "-o", "x.plan")
    refused(Outcome.BAD_MODEL, words, f"{here}/cut.onnx", "truncated", "60 bytes", "fetch it again")


def test_a_file_that_is_no_model(refused: Refused, here: Path) -> None:
    (here / "cat.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" * 30)
    refused(Outcome.BAD_MODEL, ("build", "cat.onnx", "-o", "x.plan"), f"{here}/cat.onnx", "not an ONNX file", "export")


def test_external_data_that_is_not_there(refused: Refused, here: Path) -> None:
    import onnx

    model = onnx.load("good.onnx")
    onnx.save(model, "apart.onnx", save_as_external_data=True, location="apart.data", size_threshold=0)
    (here / "apart.data").unlink()
    words = ("build", "apart.onnx", "-o", "x.plan")
    refused(Outcome.BAD_MODEL, words, f"{here}/apart.onnx", "'apart.data'", "put that file there")


@pytest.mark.parametrize(("operator", "domain"), [("Frobnicate", ""), ("Frobnicate", "acme")])
def test_an_operator_that_onnx_runtime_does_not_know(
    refused: Refused, here: Path, model: Callable[..., Path], operator: str, domain: str
) -> None:
    model(here / "odd.onnx", operator=operator, domain=domain)
    parts = (f"{here}/odd.onnx", operator, f"domain {domain or 'ai.onnx'}", "layer 'first'", "export it with")
    refused(Outcome.UNSUPPORTED, ("build", "odd.onnx", "-o", "x.plan"), *parts)
    refused(Outcome.UNSUPPORTED, ("compare", "odd.onnx", "good.plan"), operator)


# Names, shapes, dtypes


def test_an_unknown_output(refused: Refused, here: Path) -> None:
    refused(Outcome.UNSUPPORTED, (*BUILD, "--output", "z"), f"{here}/good.onnx", "output 'z'", "name one of", "'y'")


def test_an_unknown_input_of_the_build(refused: Refused) -> None:
    refused(Outcome.USAGE, (*BUILD, "--shape", "image=1x4"), "no input 'image'", "inputs are 'x'")


@pytest.mark.parametrize(
    "command", [("infer", "good.plan"), ("bench", "good.plan"), ("compare", "good.onnx", "good.plan")]
)
def test_an_unknown_input_of_the_engine(refused: Refused, here: Path, command: tuple[str, ...]) -> None:
    np.save(here / "x.npy", np.ones((1, 4), np.float32))
    parts = ("no input 'image'", "'x' (float32 [1, 4])")
    refused(Outcome.USAGE, (*command, "--input", "image=x.npy"), *parts)


def test_an_input_that_is_not_given(refused: Refused) -> None:
    refused(Outcome.USAGE, ("infer", "good.plan"), "input 'x' is missing", "float32 [1, 4]")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("x=1x5", ("[1, 5]", "input 'x'", "dimension 1 is 5", "fixes it to 4")),
        ("x=1x4x4", ("[1, 4, 4]", "input 'x'", "got 3 dimensions", "wanted the 2 of [batch, 4]")),
        ("x=one", ("--shape must look like image=1x3x224x224", "got 'x=one'")),
    ],
)
def test_a_shape_that_the_model_does_not_take(refused: Refused, word: str, parts: tuple[str, ...]) -> None:
    refused(Outcome.USAGE, (*BUILD, "--shape", word), *parts)


@pytest.mark.parametrize(
    "command", [("infer", "good.plan"), ("bench", "good.plan"), ("compare", "good.onnx", "good.plan")]
)
def test_a_shape_that_the_plan_does_not_have(refused: Refused, here: Path, command: tuple[str, ...]) -> None:
    np.save(here / "wide.npy", np.ones((1, 5), np.float32))
    parts = ("got x [1, 5]", "there are: x [1, 4]", "--shape")
    refused(Outcome.USAGE, (*command, "--input", "x=wide.npy"), *parts)


@pytest.mark.parametrize(
    "command", [("infer", "good.plan"), ("bench", "good.plan"), ("compare", "good.onnx", "good.plan")]
)
def test_a_wrong_dtype(refused: Refused, here: Path, command: tuple[str, ...]) -> None:
    np.save(here / "double.npy", np.ones((1, 4)))
    parts = ("input 'x'", "must be float32", "got float64", ".astype('float32')")
    refused(Outcome.USAGE, (*command, "--input", "x=double.npy"), *parts)


@pytest.mark.parametrize(
    ("content", "why"), [(b"junk", "it begins with b'junk'"), (b"", "it is empty")], ids=["junk", "empty"]
)
def test_an_input_file_that_is_none_is_never_advised_to_be_unpickled(
    refused: Refused, here: Path, content: bytes, why: str
) -> None:
    (here / "x.npy").write_bytes(content)
    sentence = refused(Outcome.USAGE, ("infer", "good.plan", "-i", "x.npy"), "x.npy", why, "numpy.save(path, array)")
    assert "pickle" not in sentence


@pytest.mark.parametrize(
    ("option", "what"),
    [("--calibration={}", "The calibration file"), ("--gate=accuracy={}", "The accuracy gate's data")],
)
def test_samples_that_do_not_fit_are_named_as_the_person_named_them(
    refused: Refused, here: Path, option: str, what: str
) -> None:
    np.savez(here / "double.npz", x=np.ones((3, 4)))
    np.savez(here / "other.npz", image=np.ones((3, 4), np.float32))
    (here / "junk.npz").write_bytes(b"junk")
    parts = (f"{what} {here}/double.npz", "float64", "input 'x'", "wanted float32", ".astype('float32')")
    refused(Outcome.USAGE, (*BUILD, option.format("double.npz")), *parts)
    refused(Outcome.USAGE, (*BUILD, option.format("other.npz")), f"{what} {here}/other.npz", "'image'", "'x'")
    refused(Outcome.USAGE, (*BUILD, option.format("junk.npz")), f"{what} {here}/junk.npz", "numpy.savez(")
    refused(Outcome.USAGE, (*BUILD, option.format("none.npz")), "none.npz does not exist", "give the path")


# Numbers


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--gate", "latency=7ms,batch=nan"), ("'nan'", "from 1 to")),
        (("--gate", "latency=7ms,batch=1.5"), ("'1.5'", "from 1 to")),
        (("--gate", "latency=0ms"), ("latency", "more than 0", "'0ms'", "7ms")),
        (("--gate", "memory=0"), ("memory", "more than 0", "'0'", "2Gi")),
        (("--gate", "memory=99999999999999999999Gi"), ("memory", "2Gi")),
        (("--gate", "accuracy=good.onnx,max-drop=nan"), ("'nan'", "from 0 to 1")),
        (("--gate", "accuracy=good.onnx,max-drop=5"), ("'5'", "from 0 to 1")),
        (("--gate", "speed=1"), ("--gate must be accuracy=FILE.npz", "latency=7ms", "memory=2Gi", "'speed=1'")),
        (("--batch", "99999999999999999999"), ("--batch", "from 1 to")),
        (("--batch", "0"), ("--batch", "'0'", "from 1 to")),
        (("--shape", "x=99999999999999999999x4"), ("--shape", "2147483647 at most")),
    ],
    ids=str,
)
def test_a_number_that_makes_no_sense(refused: Refused, words: tuple[str, ...], parts: tuple[str, ...]) -> None:
    refused(Outcome.USAGE, (*BUILD, *words), *parts)


# Plans and targets


def test_a_plan_for_another_target(refused: Refused, here: Path) -> None:
    from dataclasses import replace

    with container.PlanFile(here / "good.plan") as plan:
        blobs = {name: bytes(plan.blob(name)) for name in plan.manifest.blobs}
        elsewhere = replace(available.describe_host(), architecture="riscv64")
        container.write(
            here / "other.plan", replace(plan.manifest, target=elsewhere, blobs=container.layout(blobs)), blobs
        )
    for command in (("infer", "other.plan"), ("bench", "other.plan"), ("serve", "other.plan", "--http-port", "0")):
        refused(Outcome.WRONG_DEVICE, command, "other.plan", "riscv64", available.describe_host().architecture, "build")


def test_a_target_that_is_not_built(refused: Refused) -> None:
    if not available.has_gpu():
        refused(Outcome.WRONG_DEVICE, (*BUILD, "--target", "cuda"), "no NVIDIA GPU here", "use --target cpu")
    refused(Outcome.USAGE, (*BUILD, "--target", "tpu"), "--target must be one of cpu, cuda", "got 'tpu'")


@pytest.mark.parametrize("command", ["inspect", "infer", "bench", "serve"])
def test_a_file_that_is_no_plan(refused: Refused, command: str) -> None:
    port = ("--http-port", "0") if command == "serve" else ()
    parts = ("good.onnx is not a plan", "starts with", "enginewright build")
    refused(Outcome.BAD_PLAN, (command, "good.onnx", *port), *parts)
    refused(Outcome.BAD_PLAN, (command, "none.plan", *port), "none.plan", "No such file", "check the path")


# Manifests


def manifest(path: Path, *, sizes: str = "batchSizes", gpu_class: str = "cpu") -> Path:
    path.write_text(
        "apiVersion: enginewright.dev/v1alpha1\nkind: InferenceEngine\nmetadata: {name: good}\nspec:\n"
        f"  model: {{uri: good.onnx}}\n  targets: [{{gpuClass: {gpu_class}}}]\n  {sizes}: [1]\n"
    )
    return path


@pytest.mark.parametrize("command", ["explain", "up"])
def test_a_typo_in_a_manifest(refused: Refused, here: Path, command: str) -> None:
    words = (command, "-f", manifest(here / "typo.yaml", sizes="batchSize"), "--storage", "plans")
    refused(Outcome.USAGE, words, "typo.yaml, line 7", "'good'", "no field spec.batchSize", "did you mean batchSizes")


def test_a_gpu_class_that_this_machine_is_not(refused: Refused, here: Path) -> None:
    words = ("up", "-f", manifest(here / "gpu.yaml", gpu_class="nvidia-h200"), "--storage", "plans")
    refused(Outcome.USAGE, words, "'good'", "nvidia-h200", "only a cpu", "{gpuClass: cpu}")


def test_a_gpu_class_that_no_node_has_lists_the_products_that_there_are(
    enginewright: Callable[..., Any], here: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-L4"}
    node = {"metadata": {"name": "a", "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": "1"}}}
    own = {"apiVersion": "enginewright.dev/v1alpha1", "kind": "GPUClass", "metadata": {"name": "h200"}}
    classes = [own | {"spec": {"kind": "cuda", "product": "H200"}}]
    url = answering(lambda path: (200, json.dumps({"items": [node] if "nodes" in path else classes}))).endpoint
    (here.parent / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        f"clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(here.parent / "kubeconfig"))
    path = manifest(here / "gpu.yaml", gpu_class="h200")
    shutil.rmtree("plans", ignore_errors=True)
    ended = enginewright("explain", "-f", path, "--storage", "plans", "--json")
    assert ended.code == Outcome.DONE, ended.err
    (target,) = json.loads(ended.out)["targets"]
    assert target["nodes"] == "none of the cluster's 1 nodes, which have these GPU products: NVIDIA-L4 (1 node)"
