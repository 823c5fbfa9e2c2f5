"""A builder with a key signs what it stores, and believes nobody else about a plan that lies there already."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import enginewright_runtime
from enginewright_builder import identities
from enginewright_runtime import cli
from enginewright_runtime.plan import container
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.recipe import Effort, Recipe
from enginewright_runtime.plan.request import REQUEST_VARIABLE, BuildRequest
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage import uris

Pairs = Callable[[str], tuple[Path, Path]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """x [1, 4] times weights [4, 3]"""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 4), ("y", 3)))
    weights = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], "g", [x], [y], [weights])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def verified(plan: Path, public: Path) -> bool:
    return cli.main(["verify", str(plan), "--key", str(public)]) == Outcome.DONE


def test_build_signs_with_the_key_that_it_is_given(model: Path, tmp_path: Path, key_pair: Pairs) -> None:
    private, public = key_pair("team")
    words = ["build", str(model), "-o", str(tmp_path / "x.plan"), "--effort", "fast", "--sign-key", str(private)]
    assert cli.main(words) == Outcome.DONE
    assert verified(tmp_path / "x.plan", public)


def test_a_key_that_cannot_be_read_ends_the_build_before_it_begins(model: Path, tmp_path: Path) -> None:
    words = ["build", str(model), "-o", str(tmp_path / "x.plan"), "--sign-key", str(model)]
    assert cli.main(words) == Outcome.USAGE


def test_a_job_does_not_take_over_a_plan_that_somebody_else_put_there(
    model: Path, tmp_path: Path, key_pair: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = key_pair("team")
    stored = tmp_path / "store" / "engine.plan"
    target = TargetRequirement(kind=TargetKind.CPU)
    version = enginewright_runtime.__version__
    recipe = Recipe(model=identities.of(model), target=target, builder=version, effort=Effort.FAST)
    request = BuildRequest(recipe=recipe, model=uris.from_path(model), destination=uris.from_path(stored))
    monkeypatch.setenv(REQUEST_VARIABLE, request.to_json())
    assert cli.main(["build", "--request-from-environment"]) == Outcome.DONE
    assert not verified(stored, public), "the planted one, unsigned but of the same recipe"
    monkeypatch.setenv("ENGINEWRIGHT_SIGN_KEY", str(private))
    assert cli.main(["build", "--request-from-environment"]) == Outcome.DONE
    assert verified(stored, public)
    with container.PlanFile(stored) as plan:
        assert len(plan.signatures) == 1
