"""A manifest file is read strictly: what is wrong is told with its line."""

import pytest

from enginewright_operator import api
from enginewright_operator.errors import ManifestError
from enginewright_operator.local import manifests


def test_relative_uris_are_relative_to_the_manifest(given, tmp_path) -> None:
    assert given().engine.spec.model.uri == f"file://{tmp_path}/model.onnx"


def test_uris_of_other_schemes_stay(given, engine_text) -> None:
    found = given(engine_text.replace("model.onnx", "s3://models/a.onnx"))
    assert found.engine.spec.model.uri == "s3://models/a.onnx"


def test_gate_data_and_calibration_are_relative_too(given, engine_text, tmp_path) -> None:
    more = "  gates: {accuracy: {data: test.npz, maxDrop: 0.1}}\n  calibration: {uri: c.npz}\n"
    spec = given(engine_text + more).engine.spec
    assert spec.gates.accuracy.data == f"file://{tmp_path}/test.npz"
    assert spec.calibration.uri == f"file://{tmp_path}/c.npz"


def test_a_typo_names_line_field_and_the_nearest_valid_one(write, engine_text) -> None:
    path = write(engine_text + "  batchSize: [1]\n")
    with pytest.raises(ManifestError, match=r"manifest\.yaml, line 11: .*spec\.batchSize; did you mean batchSizes"):
        manifests.read(path)


def test_a_typo_deep_inside_a_list_names_its_line(write, engine_text) -> None:
    path = write(engine_text.replace("- gpuClass: cpu", "- gpuClass: cpu\n      replica: 2"))
    with pytest.raises(ManifestError, match=r"line 11: .*targets\[0\]\.replica; did you mean replicas"):
        manifests.read(path)


def test_a_wrong_value_names_its_line(write, engine_text) -> None:
    path = write(engine_text + "  build:\n    deadline: soon\n")
    with pytest.raises(ManifestError, match=r"line 12: .*deadline.*'soon'"):
        manifests.read(path)


def test_a_missing_field_names_the_object_that_lacks_it(write, engine_text) -> None:
    path = write(engine_text.replace("uri: model.onnx", "sha256: " + "a" * 64))
    with pytest.raises(ManifestError, match=r"line 7: .*spec\.model\.uri is missing"):
        manifests.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ManifestError, match=r"none\.yaml does not exist: give the path"):
        manifests.read(tmp_path / "none.yaml")


def test_what_is_not_yaml_is_refused_with_the_place(write) -> None:
    with pytest.raises(ManifestError, match=r"is not YAML: .*line 1"):
        manifests.read(write("a: [1"))


def test_a_yaml_tag_cannot_run_anything(write) -> None:
    with pytest.raises(ManifestError, match="is not YAML"):
        manifests.read(write("a: !!python/object/apply:os.system [true]"))


def test_a_document_that_is_no_object_is_refused(write) -> None:
    with pytest.raises(ManifestError, match=r"must be an object .* got list"):
        manifests.read(write("[1, 2]"))


def test_an_unknown_kind_is_refused_with_those_there_may_be(write, engine_text) -> None:
    with pytest.raises(ManifestError, match=r"line \d+: a document of kind 'Pod'.*InferenceEngine, GPUClass"):
        manifests.read(write(engine_text, "{kind: Pod}"))


@pytest.mark.parametrize("count", [0, 2])
def test_there_must_be_one_engine(write, engine_text, count) -> None:
    texts = [engine_text] * count or ["{kind: Namespace}"]
    with pytest.raises(ManifestError, match=r"must hold one InferenceEngine, got (none|tiny, tiny)"):
        manifests.read(write(*texts))


def test_the_class_cpu_needs_no_definition(given) -> None:
    assert given().gpu_classes["cpu"].spec.resource_name == ""


def test_a_secret_is_read_from_data_and_string_data(given, engine_text, secret_text) -> None:
    assert given(engine_text, secret_text).secrets["keys"] == {
        "AWS_ACCESS_KEY_ID": "key-id",
        "AWS_SECRET_ACCESS_KEY": "the secret",
    }


def test_a_secret_does_not_show_when_printed(given, engine_text, secret_text) -> None:
    assert "the secret" not in repr(given(engine_text, secret_text))


def test_a_secret_that_is_no_base64_is_refused_without_showing_it(write, engine_text) -> None:
    with pytest.raises(ManifestError, match="key 'k' of the Secret 'x' is not base64") as caught:
        manifests.read(write(engine_text, "{kind: Secret, metadata: {name: x}, data: {k: 'p@ss'}}"))
    assert "p@ss" not in str(caught.value)


def test_a_secret_without_a_name_is_refused(write, engine_text) -> None:
    with pytest.raises(ManifestError, match=r"a Secret has no metadata\.name"):
        manifests.read(write(engine_text, "{kind: Secret, data: {}}"))


def test_a_config_map_of_numbers_is_refused(write, engine_text) -> None:
    with pytest.raises(ManifestError, match="ConfigMap 'x' must map names to texts"):
        manifests.read(write(engine_text, "{kind: ConfigMap, metadata: {name: x}, data: {k: 1}}"))


def test_credentials_that_are_needed_must_be_in_the_file(given, engine_text) -> None:
    found = given(engine_text.replace("model.onnx", "s3://models/a.onnx"))
    storage = api.Storage(uri="s3://b/p", credentials_secret="absent")
    with pytest.raises(ManifestError, match=r"Secret 'absent' .* is not in .*AWS_\*"):
        manifests.credentials(found, storage)
