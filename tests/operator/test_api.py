"""Manifests are read strictly, with a sentence about the first thing that is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_objects import engine

from enginewright_operator import api
from enginewright_operator.errors import ManifestError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits" / "manifest.yaml"


def manifest(**spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    made["spec"] |= spec
    return made


def test_the_examples_manifest_is_an_engine() -> None:
    assert api.read(api.InferenceEngine, manifest()).spec.batch_sizes == (1, 8)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"gates": {"memroy": "1Gi"}}, "there is no field spec.gates.memroy; did you mean memory"),
        (
            {"gates": {"accuracy": {"data": "s3://b/x.npz", "maxdrpo": 0.1}}},
            "spec.gates.accuracy.maxdrpo; did you mean maxDrop",
        ),
        ({"targets": [{"gpuClass": "cpu", "replcias": 2}]}, "spec.targets[0].replcias; did you mean replicas"),
        ({"targets": [{}]}, "the field spec.targets[0].gpuClass is missing"),
        ({"batchSizes": [0]}, "spec.batchSizes[0]: input should be greater than or equal to 1, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ManifestError) as refused:
        api.read(api.InferenceEngine, manifest(**spec))
    assert sentence in refused.value.message
    assert "'digits'" in refused.value.message


def test_another_kind_is_named() -> None:
    with pytest.raises(ManifestError, match=r"of kind InferenceEngine .* wanted is GPUClass"):
        api.read(api.GPUClass, manifest())


def test_a_status_of_another_version_is_read_all_the_same() -> None:
    assert engine(status={"observedGeneration": 2, "inventedLater": 1}).status is not None


@pytest.mark.parametrize(("text", "value"), [("1Gi", 1 << 30), ("1.5G", 1_500_000_000), ("512Mi", 512 << 20), ("7", 7)])
def test_quantities_are_bytes(text: str, value: int) -> None:
    assert api.parse_quantity(text) == value


@pytest.mark.parametrize(("text", "value"), [("1h30m", 5400.0), ("7ms", 0.007), ("250us", 0.00025), ("2m", 120.0)])
def test_durations_are_seconds(text: str, value: float) -> None:
    assert api.parse_duration(text) == pytest.approx(value)


def test_what_is_no_quantity_or_duration_is_refused_with_an_example() -> None:
    with pytest.raises(ManifestError, match="512Mi"):
        api.parse_quantity("a lot")
    with pytest.raises(ManifestError, match="1h30m"):
        api.parse_duration("fast")


def test_a_status_that_only_the_api_server_wrote_is_none() -> None:
    defaults = {"observedGeneration": -1, "targetsReady": "", "url": ""}
    assert engine(status=defaults).status is None
    assert engine(status=defaults | {"observedGeneration": 1}).status is not None
