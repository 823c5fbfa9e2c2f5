"""Objects to render from, and the comparison with the golden YAML."""

from typing import Any

import pytest

from enginewright_operator import api, recipes
from enginewright_operator.settings import Settings

H200 = {"kind": "cuda", "product": "H200", "productLabels": ["NVIDIA-H200"], "computeCapability": "9.0"}


@pytest.fixture
def settings() -> Settings:
    return Settings(builder_image="registry.example/builder:1", runtime_image="registry.example/runtime:1")


@pytest.fixture
def make_engine():
    def make(*, uid: str = "11111111-2222", storage: dict[str, Any] | None = None, **spec: Any) -> api.InferenceEngine:
        return api.read(
            api.InferenceEngine,
            {
                "apiVersion": api.API_VERSION,
                "kind": "InferenceEngine",
                "metadata": {"name": "resnet50", "namespace": "vision", "uid": uid},
                "spec": {
                    "model": {"uri": "s3://models/resnet50.onnx"},
                    "storage": storage or {"uri": "s3://engines/team"},
                    "targets": [{"gpuClass": "nvidia-h200", "replicas": 2}],
                    **spec,
                },
            },
        )

    return make


@pytest.fixture
def make_class():
    def make(name: str = "nvidia-h200", **spec: Any) -> api.GPUClass:
        return api.read(
            api.GPUClass,
            {
                "apiVersion": api.API_VERSION,
                "kind": "GPUClass",
                "metadata": {"name": name},
                "spec": spec or H200,
            },
        )

    return make


@pytest.fixture
def make_plan():
    def make(engine: api.InferenceEngine, gpu_class: api.GPUClass) -> api.EnginePlan:
        identities = recipes.Identities(model="version:abc")
        recipe = recipes.recipe_for(engine.spec, gpu_class, identities, builder="0.1.0")
        assert engine.spec.storage is not None
        plan = recipes.engine_plan(engine, engine.spec.storage, gpu_class, recipe)
        return plan.model_copy(update={"metadata": plan.metadata.model_copy(update={"uid": "33333333-4444"})})

    return make
