"""A recipe's digest is a plan's name: the operator and the builder must compute the same, in every version."""

from dataclasses import replace
from typing import Any

import pytest

from enginewright_runtime.plan.recipe import AccuracyGate, Effort, Gates, LatencyGate, Precision, Recipe
from enginewright_runtime.plan.records import canonical, from_json, parse
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

# A change here renames every plan that users have, so that all are built anew: it must be meant.
GOLDEN = "a53a67226d21d43f35fda3b4e206f7841cf5aef23344f52ed74e754d6f572faa"
GOLDEN_LEAST = (
    '{"builder":"0.1.0","model":"sha256:m","target":{"kind":"cpu"}}',
    "9c672204927412654957fb9b99801ad7cad6e6a3654eb3ff87ea2dc5f142f67c",
)


def least() -> Recipe:
    return Recipe(model="sha256:m", target=TargetRequirement(kind=TargetKind.CPU), builder="0.1.0")


def test_the_digest_of_a_full_recipe_is_pinned(recipe: Recipe) -> None:
    assert recipe.digest == GOLDEN


def test_the_digest_of_the_least_recipe_is_pinned_and_holds_no_default() -> None:
    assert (canonical(least()).decode(), least().digest) == GOLDEN_LEAST


def test_the_order_of_fields_and_shapes_names_does_not_matter(recipe: Recipe) -> None:
    one = replace(recipe, shapes=({"a": (1,), "b": (2,)},))
    other = replace(recipe, shapes=({"b": (2,), "a": (1,)},))
    assert one.digest == other.digest


def test_a_default_that_is_written_out_does_not_change_the_digest() -> None:
    assert replace(least(), effort=Effort.BALANCED, workspace=1 << 30, gates=Gates()).digest == least().digest


def test_a_whole_number_has_the_same_digest_before_and_after_it_travels() -> None:
    recipe = replace(least(), gates=Gates(latency=LatencyGate(p99_ms=7), accuracy=AccuracyGate(data="d", max_drop=1)))
    read = from_json(Recipe, parse(canonical(recipe), what="it"), what="it")
    assert read.digest == recipe.digest


@pytest.mark.parametrize(
    "change",
    [
        {"model": "sha256:n"},
        {"outputs": ("y",)},
        {"shapes": ({"x": (1,)},)},
        {"batch_sizes": (1,)},
        {"precisions": (Precision.FP16,)},
        {"calibration": "sha256:c"},
        {"workspace": 1},
        {"effort": Effort.FAST},
        {"plugins": ("p",)},
        {"gates": Gates(memory=1)},
        {"target": TargetRequirement(kind=TargetKind.CPU, architecture="aarch64")},
        {"builder": "0.2.0"},
    ],
)
def test_all_that_decides_a_plan_changes_the_digest(change: dict[str, Any]) -> None:
    assert replace(least(), **change).digest != least().digest
