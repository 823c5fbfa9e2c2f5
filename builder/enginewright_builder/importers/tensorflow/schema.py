"""TensorFlow's files as protobuf messages: tensorflow.proto."""

from importlib import resources
from typing import Any

from enginewright_builder.importers import messages

CLASSES = messages.classes(resources.files(__package__).joinpath("tensorflow.proto").read_text(encoding="utf-8"))
GraphDef: Any = CLASSES["GraphDef"]
SavedModel: Any = CLASSES["SavedModel"]
TensorProto: Any = CLASSES["TensorProto"]
