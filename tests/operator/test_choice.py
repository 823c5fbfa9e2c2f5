"""A plan is for one product of its class: always the same one, and for as long as a node has it."""

from dataclasses import replace

import pytest
from operator_objects import IDENTITIES, engine, gpu_class

from enginewright_operator import choice, gpu, recipes
from enginewright_operator.render import pods

SMALL, LARGE = "A100-SXM4-40GB", "A100-80GB-PCIe"
LISTED = gpu_class("a100", kind="cuda", productLabels=[f"NVIDIA-{SMALL}", f"NVIDIA-{LARGE}"])
ANY = gpu_class("ampere", kind="cuda", computeCapability="8.0")


def node(product: str, count: int = 1, *, closed: bool = False, suffix: str = "") -> gpu.Node:
    labels = {gpu.PRODUCT_LABEL: f"NVIDIA-{product}{suffix}", gpu.MAJOR_LABEL: "8", gpu.MINOR_LABEL: "0"}
    return gpu.Node(name=product, labels=labels, allocatable={"nvidia.com/gpu": str(count)}, closed=closed)


def chosen(given: gpu.Node | tuple[gpu.Node, ...] = (), *, of=LISTED, held: str = "") -> str | None:
    nodes = given if isinstance(given, tuple) else (given,)
    found = choice.choose(of, nodes, held=held)
    return found.product if found else None


def test_of_a_list_the_first_that_a_node_has_is_taken_however_few_there_are() -> None:
    assert chosen((node(LARGE, 8), node(SMALL, 1))) == SMALL
    assert chosen(node(LARGE, 8)) == LARGE


def test_where_nothing_is_listed_the_product_with_the_most_gpus_is_taken_and_of_equals_the_first_by_name() -> None:
    assert chosen((node(LARGE, 4), node(SMALL, 8)), of=ANY) == SMALL
    assert chosen((node(SMALL, 4), node(LARGE, 4)), of=ANY) == LARGE
    assert chosen((node(LARGE, 2), node(SMALL, 3), node(LARGE, 2)), of=ANY) == LARGE


@pytest.mark.parametrize("counts", [(1, 8), (8, 1), (5, 5)])
def test_a_product_that_a_plan_is_for_stays_while_a_node_has_it(counts: tuple[int, int]) -> None:
    nodes = (node(SMALL, counts[0]), node(LARGE, counts[1]))
    for held in (SMALL, LARGE):
        assert chosen(nodes, held=held) == held
        assert chosen(nodes, of=ANY, held=held) == held


def test_it_is_left_when_its_last_node_is_cordoned_and_another_product_is_there() -> None:
    assert chosen((node(SMALL, closed=True), node(LARGE)), held=SMALL) == LARGE
    assert chosen((node(SMALL, closed=True), node(SMALL), node(LARGE)), held=SMALL) == SMALL
    assert chosen(node(SMALL, closed=True), held=SMALL) == SMALL, "there is no other"


def test_it_is_left_when_the_class_has_it_no_more() -> None:
    assert chosen((node("A30"), node(LARGE)), held="A30") == LARGE


def test_without_any_node_it_stays_or_is_the_first_of_the_list() -> None:
    assert chosen(held=LARGE) == LARGE
    assert chosen() == SMALL
    assert choice.choose(LISTED, None) == choice.Choice(product=SMALL), "nodes may not be read"
    assert chosen(of=ANY) is None


def test_a_class_that_needs_no_gpu_has_no_product() -> None:
    assert choice.choose(gpu_class(), ()) == choice.Choice()
    assert choice.only(gpu_class(), "") == gpu_class()


def driven(*branches: str) -> list[gpu.Node]:
    labels = [{gpu.DRIVER_LABEL: branch} if branch else {} for branch in branches]
    return [replace(node(LARGE), labels={**node(LARGE).labels, **each}) for each in labels]


@pytest.mark.parametrize(
    ("branches", "oldest"), [(("580", "570", "1000"), "570"), (("580", ""), ""), (("580", "beta"), ""), ((), "")]
)
def test_the_oldest_driver_is_the_one_whose_plans_all_nodes_load(branches: tuple[str, ...], oldest: str) -> None:
    assert gpu.oldest_driver(driven(*branches)) == oldest
    found = choice.choose(LISTED, driven(*branches))
    assert found is not None
    assert found.driver == oldest


def test_a_build_is_of_its_branch_and_pods_are_of_that_or_a_newer_one() -> None:
    older, same, newer = (each.labels for each in driven("570", "580", "590"))
    (build,), (serve,) = (gpu.driver_requirement(LISTED.spec, "580", building=building) for building in (True, False))
    assert [build.met_by(labels) for labels in (older, same, newer)] == [False, True, False]
    assert [serve.met_by(labels) for labels in (older, same, newer)] == [False, True, True]
    assert gpu.driver_requirement(LISTED.spec, "", building=True) == ()


def test_the_sentence_names_all_products_with_their_gpus_and_says_why() -> None:
    found = choice.choose(LISTED, (node(LARGE, 8), node(SMALL, 2), node(SMALL, 2)))
    assert found is not None
    assert found.sentence == (
        f"Of the products of the GPUClass a100 that there are, with their GPUs, {LARGE} (8), {SMALL} (4), its plans "
        f"are for {SMALL}: the first in the class's list that a node has."
    )


def test_nothing_is_said_where_there_is_no_other() -> None:
    found = choice.choose(LISTED, [node(LARGE)])
    assert found == choice.Choice(product=LARGE)


def test_a_class_of_any_product_takes_no_part_of_a_gpu_and_none_that_is_shared() -> None:
    assert not gpu.matches(ANY.spec, node(SMALL, suffix="-MIG-1g.5gb"))
    assert not gpu.matches(ANY.spec, node(SMALL, suffix="-SHARED"))
    part = gpu_class("part", kind="cuda", computeCapability="8.0", migProfile="1g.5gb")
    assert gpu.offered(part.spec, node(SMALL, 7, suffix="-MIG-1g.5gb")) == {SMALL: 7}
    assert not gpu.matches(part.spec, node(SMALL))


def test_pods_and_recipes_are_pinned_to_the_product() -> None:
    for whole in (LISTED, ANY):
        pinned = choice.only(whole, LARGE)
        assert pinned is not None
        assert recipes.recipe_for(engine().spec, pinned, IDENTITIES).target.product == LARGE
        assert gpu.matches(pinned.spec, node(LARGE))
        assert not gpu.matches(pinned.spec, node(SMALL))
        terms = pods.node_affinity(pinned.spec)["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (rule,) = [row for row in terms["nodeSelectorTerms"][0]["matchExpressions"] if row["key"] == gpu.PRODUCT_LABEL]
        assert f"NVIDIA-{LARGE}" in rule["values"]
        assert not any(SMALL in value for value in rule["values"])


@pytest.mark.parametrize("resource", [{}, {"resource": "nvidia.com/mig-1g.5gb"}])
def test_a_pinned_part_of_a_gpu_keeps_what_is_written_behind_its_label(resource: dict[str, str]) -> None:
    part = gpu_class(
        "part", kind="cuda", productLabels=[f"NVIDIA-{SMALL}"], migProfile="1g.5gb", shared=True, **resource
    )
    pinned = choice.only(part, SMALL)
    assert pinned is not None
    assert gpu.product_labels(pinned.spec) == gpu.product_labels(part.spec)


@pytest.mark.parametrize("product", ["A10", ""])
def test_a_product_that_is_not_of_the_class_has_no_pinned_class(product: str) -> None:
    assert choice.only(LISTED, product) is None


def test_an_ordinary_class_has_the_recipe_and_the_labels_that_it_always_had() -> None:
    ordinary = gpu_class("h200", kind="cuda", product="H200")
    pinned = choice.only(ordinary, "H200")
    assert pinned is not None
    assert recipes.requirement(pinned) == recipes.requirement(ordinary)
    assert gpu.requirements(pinned.spec) == gpu.requirements(ordinary.spec)


def test_what_people_call_a_gpu_becomes_what_its_driver_calls_it() -> None:
    assert chosen(node("A100-SXM4-80GB"), of=gpu_class("c", kind="cuda", product="A100-80GB")) == "A100-SXM4-80GB"


def test_a_plan_of_one_product_keeps_its_pods_while_the_class_has_that_product() -> None:
    pinned = choice.only(LISTED, LARGE)
    assert pinned is not None
    made = recipes.engine_plan(
        engine(), engine().spec.storage, pinned, recipes.recipe_for(engine().spec, pinned, IDENTITIES)
    )
    assert recipes.class_of(made, LISTED) == pinned
    assert recipes.class_of(made, gpu_class("a100", kind="cuda", product=SMALL)) is None
    assert recipes.class_of(made, None) is None
