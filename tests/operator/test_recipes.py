"""The same spec and inputs give the same plan; anything that decides a plan gives another."""

from typing import Any

import pytest
from operator_objects import IDENTITIES, engine, gpu_class, plan

from enginewright_operator import api, recipes
from enginewright_operator.errors import ManifestError
from enginewright_runtime.plan.recipe import ModelFormat, Precision, Recipe

STORAGE = api.Storage(uri="s3://p/prefix/")


def recipe(identities: recipes.Identities = IDENTITIES, *, builder: str = "1", **spec: Any) -> Recipe:
    return recipes.recipe_for(engine(**spec).spec, gpu_class(), identities, builder=builder)


def test_the_same_spec_gives_the_same_digest() -> None:
    assert recipe().digest == recipe().digest


@pytest.mark.parametrize(
    "spec",
    [
        {"batchSizes": [1]},
        {"shapes": [{"x": [1, 2]}]},
        {"precision": {"allow": ["fp16"]}},
        {"gates": {"latency": {"p99": "7ms"}}},
        {"gates": {"memory": "1Gi"}},
        {"build": {"workspace": "2Gi"}},
        {"build": {"effort": "fast"}},
        {"model": {"uri": "s3://m/m.onnx", "outputs": ["y"]}},
    ],
)
def test_what_decides_a_plan_changes_its_digest(spec: dict[str, Any]) -> None:
    assert recipe(**spec).digest != recipe().digest


@pytest.mark.parametrize(
    "spec",
    [
        {"rollout": {"keepLast": 5}},
        {"build": {"deadline": "1h"}},
        {"targets": [{"gpuClass": "cpu", "replicas": 9}]},
        {"model": {"uri": "s3://elsewhere/m.onnx"}},
        {"precision": {"allow": ["fp32"]}},
    ],
)
def test_what_does_not_decide_a_plan_leaves_its_digest(spec: dict[str, Any]) -> None:
    assert recipe(**spec).digest == recipe().digest


def test_batch_sizes_and_precisions_have_one_order() -> None:
    assert recipe(batchSizes=[8, 1]).digest == recipe(batchSizes=[1, 8]).digest
    assert recipe(precision={"allow": ["fp16", "bf16"]}).precisions == (Precision.FP32, Precision.BF16, Precision.FP16)


def test_a_latency_limit_is_milliseconds() -> None:
    latency = recipe(gates={"latency": {"batch": 8, "p99": "20ms"}}).gates.latency
    assert latency is not None
    assert (latency.batch, latency.p99_ms) == (8, 20.0)


def test_a_format_that_the_suffix_does_not_tell_must_be_given() -> None:
    with pytest.raises(ManifestError, match=r"s3://m/model .* spec.model.format"):
        recipe(model={"uri": "s3://m/model"})
    assert recipe(model={"uri": "s3://m/model", "format": "onnx"}).format is ModelFormat.ONNX


def test_a_plan_is_named_by_its_recipe_and_its_storage() -> None:
    digest = recipe().digest
    name = recipes.plan_name(digest, STORAGE)
    assert name.startswith(f"plan-{digest[:16]}-")
    assert name != recipes.plan_name(digest, api.Storage(uri="s3://other"))


def test_a_plan_lies_under_its_namespace_and_digest() -> None:
    made = recipes.engine_plan(engine(), STORAGE, gpu_class(), recipe())
    assert made.spec.plan_uri == f"s3://p/prefix/plans/n/{recipe().digest}/engine.plan"


def test_a_build_request_holds_the_recipe_of_the_digest() -> None:
    request = recipes.build_request(plan())
    assert request.recipe.digest == plan().spec.digest
    assert (request.model, request.destination) == ("s3://m/m.onnx", plan().spec.plan_uri)


def test_plugins_are_in_the_recipe_by_their_content_and_in_the_request_by_their_place() -> None:
    own = engine(build={"plugins": ["s3://m/a.py", "s3://m/b.py"]})
    uris = recipes.input_uris(own.spec)
    identities = recipes.Identities.of({name: f"version:{uri[-4]}" for name, uri in uris.items()})
    made = recipes.recipe_for(own.spec, gpu_class(), identities)
    assert made.plugins == ("version:a", "version:b")
    request = recipes.build_request(recipes.engine_plan(own, STORAGE, gpu_class(), made))
    assert request.plugins == ("s3://m/a.py", "s3://m/b.py")


def test_a_ca_bundle_is_where_the_pods_mount_it() -> None:
    storage = api.Storage.model_validate({"uri": "s3://p", "caBundle": {"secret": {"name": "ca"}}})
    request = recipes.build_request(recipes.engine_plan(engine(), storage, gpu_class(), recipe()))
    assert request.storage.ca_bundle == api.CA_BUNDLE_PATH


@pytest.mark.parametrize(
    ("image", "identity"),
    [
        ("enginewright/builder:1.2", ""),
        ("registry.example:5000/a/builder:1.2", ""),
        ("registry.example:5000/a/builder", ""),
        ("builder:1.2-patched", "1.2-patched"),
        ("builder@sha256:abc", "sha256:abc"),
        ("registry.example:5000/builder:1.2@sha256:abc", "sha256:abc"),
    ],
)
def test_an_image_is_told_by_its_digest_or_by_a_tag_that_is_not_its_versions(image: str, identity: str) -> None:
    assert recipes.image_identity(image, version="1.2") == identity


def test_layers_on_the_host_are_part_of_the_recipe() -> None:
    plain = recipes.recipe_for(engine().spec, gpu_class(), IDENTITIES)
    allowed = recipes.recipe_for(engine(build={"allowHost": True}).spec, gpu_class(), IDENTITIES)
    assert (plain.allow_host, allowed.allow_host) == (False, True)
    assert plain.digest != allowed.digest


def test_builds_of_a_namespace_share_their_timings_beside_its_plans() -> None:
    assert recipes.build_request(plan()).timing_cache == "s3://p/timings/n/"


def test_the_manifests_deadline_is_told_to_the_builder_and_names_no_plan() -> None:
    hurried, patient = (engine(build={"deadline": text}) for text in ("90s", "2h"))
    digests = {recipes.recipe_for(each.spec, gpu_class(), IDENTITIES).digest for each in (hurried, patient)}
    assert len(digests) == 1
    asked = plan()
    assert recipes.build_request(asked).deadline_seconds == 30 * 60
    sooner = asked.model_copy(update={"spec": asked.spec.model_copy(update={"deadline": "90s"})})
    assert recipes.build_request(sooner).deadline_seconds == 90
