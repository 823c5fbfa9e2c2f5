"""Caffe's files as protobuf messages: caffe.proto."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from enginewright_builder.importers import messages


@cache
def _classes() -> Mapping[str, Any]:
    return messages.classes(resources.files(__package__).joinpath("caffe.proto").read_text(encoding="utf-8"))


def net_parameter() -> Any:
    """The message class of a whole prototxt."""
    return _classes()["NetParameter"]


def layer_parameter(*, old: bool) -> Any:
    """The message class of one layer of it, of either form."""
    return _classes()["V1LayerParameter" if old else "LayerParameter"]
