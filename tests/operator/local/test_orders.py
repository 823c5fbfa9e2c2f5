"""Which build a manifest orders on this machine, and where its plan goes."""

from pathlib import Path

import pytest

from enginewright_operator.errors import ManifestError
from enginewright_operator.gpu import Node
from enginewright_operator.local import orders
from enginewright_runtime.errors import ObjectMissingError


@pytest.fixture
def order(given, tmp_path, engine_text):
    def make(text: str = engine_text):
        found = given(text)
        storage = orders.local_storage(found, tmp_path / "store")
        return found, orders.order(found, found.engine.spec.targets[0], storage, notes=tmp_path / "store")

    return make


def test_the_same_manifest_has_the_same_digest_again(order) -> None:
    assert order()[1].digest == order()[1].digest


def test_another_model_has_another_digest(order, tmp_path, given, engine_text) -> None:
    before = order()[1].digest
    found = given(engine_text)
    (tmp_path / "model.onnx").write_bytes(b"another")
    storage = orders.local_storage(found, tmp_path / "store")
    assert orders.order(found, found.engine.spec.targets[0], storage, notes=tmp_path).digest != before


def test_the_first_plan_of_a_target_is_said_to_be_so(order) -> None:
    assert order()[1].why == "It is the first plan of this target."


def test_a_later_one_says_what_changed(order, tmp_path, engine_text) -> None:
    found, first = order()
    orders.note_built(found, first, notes=tmp_path / "store")
    assert "batch sizes" in order(engine_text + "  batchSizes: [4]\n")[1].why


def test_a_note_that_cannot_be_read_counts_as_none(order, tmp_path) -> None:
    found, first = order()
    orders.note_built(found, first, notes=tmp_path / "store")
    next((tmp_path / "store").rglob("cpu.json")).write_text("{")
    assert order()[1].why == "It is the first plan of this target."


def test_a_plan_that_lies_at_its_place_exists_until_it_is_forgotten(order, tmp_path) -> None:
    found, first = order()
    assert not first.exists
    path = tmp_path / "store/plans/default" / first.digest / "engine.plan"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a plan")
    assert order()[1].exists
    orders.forget(found, first)
    assert not order()[1].exists


def test_a_model_that_is_missing_is_named(given, tmp_path, engine_text) -> None:
    found = given(engine_text.replace("model.onnx", "absent.onnx"))
    with pytest.raises(ObjectMissingError, match=r"absent\.onnx"):
        orders.order(found, found.engine.spec.targets[0], orders.local_storage(found, tmp_path), notes=tmp_path)


def test_the_sha256_of_the_manifest_is_the_models_identity(order, engine_text) -> None:
    made = order(engine_text.replace("uri: model.onnx", f"uri: model.onnx\n    sha256: {'a' * 64}"))[1]
    assert made.recipe.model == "sha256:" + "a" * 64


def test_plans_are_kept_where_the_desktop_says() -> None:
    assert orders.default_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/enginewright")
    assert orders.default_folder({}) == Path.home() / ".local/share/enginewright"


def test_local_files_need_nothing_of_the_manifests_storage(given, tmp_path, engine_text) -> None:
    text = engine_text + "  storage: {uri: s3://b/p, credentialsSecret: keys}\n"
    assert orders.local_storage(given(text), tmp_path).credentials_secret is None


def test_a_model_in_a_bucket_is_reached_as_the_manifest_says(given, tmp_path, engine_text) -> None:
    text = engine_text.replace("model.onnx", "s3://m/a.onnx")
    text += "  storage: {uri: s3://b/p, credentialsSecret: keys, endpoint: 'http://127.0.0.1:9'}\n"
    storage = orders.local_storage(given(text), tmp_path)
    assert (storage.uri, storage.endpoint) == (f"file://{tmp_path}", "http://127.0.0.1:9")
    assert storage.credentials_secret == "keys"


CLASS = """
apiVersion: enginewright.dev/v1alpha1
kind: GPUClass
metadata: {name: a100}
spec: {kind: cuda, productLabels: [NVIDIA-A100-SXM4-40GB, NVIDIA-A100-80GB-PCIe]}
"""


def test_of_a_class_of_several_products_it_is_for_the_one_that_the_nodes_decide_on(
    given, tmp_path, engine_text
) -> None:
    found = given(engine_text.replace("gpuClass: cpu", "gpuClass: a100"), CLASS)
    nodes = [
        Node(name=product, labels={"nvidia.com/gpu.product": product}, allocatable={"nvidia.com/gpu": "1"})
        for product in ("NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-SXM4-40GB")
    ]
    storage = orders.local_storage(found, tmp_path)

    def ordered(held: str = "") -> orders.Order:
        return orders.order(found, found.engine.spec.targets[0], storage, notes=tmp_path, nodes=nodes, held=held)

    assert ordered().recipe.target.product == "A100-SXM4-40GB"
    assert "its plans are for A100-SXM4-40GB" in ordered().choice
    assert ordered("A100-80GB-PCIe").recipe.target.product == "A100-80GB-PCIe"


def test_a_class_of_any_product_needs_nodes_to_choose_by(given, tmp_path, engine_text) -> None:
    anything = CLASS.partition("spec:")[0] + 'spec: {kind: cuda, computeCapability: "8.0"}'
    found = given(engine_text.replace("gpuClass: cpu", "gpuClass: a100"), anything)
    with pytest.raises(ManifestError, match="a100 takes any product"):
        orders.order(found, found.engine.spec.targets[0], orders.local_storage(found, tmp_path), notes=tmp_path)
