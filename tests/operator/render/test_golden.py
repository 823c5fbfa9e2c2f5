"""The rendered manifests as a person reads them: a change of one is a change of these files, for review.

REWRITE_GOLDEN=1 writes them anew.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from enginewright_operator import recipes
from enginewright_operator.render import build_job, serving

GOLDEN = Path(__file__).parent / "golden"
STORAGE = {
    "uri": "s3://engines/team",
    "endpoint": "https://minio.example.com:9000",
    "region": "eu-1",
    "pathStyle": True,
    "credentialsSecret": "minio",
    "caBundle": {"configMap": {"name": "minio-ca"}},
}


def check(name: str, manifest: dict[str, Any]) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump(manifest, sort_keys=False, width=110)
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_build_job_is_the_golden_one(make_engine, make_class, make_plan, settings) -> None:
    gpu_class = make_class()
    plan = make_plan(make_engine(storage=STORAGE), gpu_class)
    check("build_job", build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings))


def test_the_deployment_is_the_golden_one(make_engine, make_class, settings) -> None:
    engine = make_engine(storage=STORAGE, serving={"resources": {"requests": {"cpu": 2}, "limits": {"memory": "4Gi"}}})
    uri = "s3://engines/team/plans/vision/" + "ab" * 32 + "/engine.plan"
    check("deployment", serving.deployment(engine, engine.spec.targets[0], uri, "ab" * 32, make_class(), settings))


def test_the_service_is_the_golden_one(make_engine, settings) -> None:
    check("service", serving.service(make_engine(), settings))


def test_a_cpu_target_asks_for_no_gpu_and_any_node(make_engine, make_class, make_plan, settings) -> None:
    gpu_class = make_class("cpu", kind="cpu")
    plan = make_plan(make_engine(targets=[{"gpuClass": "cpu"}]), gpu_class)
    check("build_job_cpu", build_job.build_job(plan, recipes.build_request(plan), gpu_class, settings))
