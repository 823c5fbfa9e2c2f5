"""The CRDs are what the models say, structural, and the committed files are of these models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from enginewright_operator import crds

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["crds", "charts/enginewright/crds"])
@pytest.mark.parametrize("definition", crds.DEFINITIONS, ids=lambda each: each.model.KIND)
def test_the_committed_files_are_up_to_date(folder: str, definition: crds.Definition) -> None:
    path = REPOSITORY / folder / f"{definition.model.PLURAL}.yaml"
    assert path.read_text() == crds.to_yaml(definition), "run `make crds`"


def schemas(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{place}.{name}")
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from schemas(node[name], f"{place}[]")


@pytest.mark.parametrize("definition", crds.DEFINITIONS, ids=lambda each: each.model.KIND)
def test_every_node_has_a_type_and_every_field_a_description(definition: crds.Definition) -> None:
    (version,) = crds.custom_resource_definition(definition)["spec"]["versions"]
    for place, node in schemas(version["schema"]["openAPIV3Schema"]):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), place
        assert not {"$ref", "anyOf", "title", "const"} & set(node), place
        bare = place in ("", ".apiVersion", ".kind", ".metadata") or place.endswith("[]")
        assert bare or node.get("description"), f"{place} has no description"


def test_a_type_that_a_structural_schema_cannot_say_is_refused() -> None:
    class Odd(BaseModel):
        field: int | list[str]

    with pytest.raises(TypeError, match="structural"):
        crds.structural(Odd)


def test_main_writes_a_file_a_kind(tmp_path: Path) -> None:
    crds.main([str(tmp_path / "crds")])
    assert sorted(path.stem for path in (tmp_path / "crds").iterdir()) == [
        "engineplans",
        "gpuclasses",
        "inferenceengines",
    ]
