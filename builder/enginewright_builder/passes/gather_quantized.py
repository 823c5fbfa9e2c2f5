"""Gather(DequantizeLinear(x, s, z), i) => DequantizeLinear(Gather(x, i), s, z), where a table has one scale for all.

A quantized embedding is a table of some ten thousand rows, of which an inference reads a few: as exporters write it,
every inference makes the whole table float first.
"""

import math
from dataclasses import dataclass

import onnx_ir as ir

from enginewright_builder.network import rewire
from enginewright_builder.network.network import Network, is_constant, static_shape
from enginewright_builder.passes.base import PassReport


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherQuantized:
    """See the module."""

    name: str = "gather-quantized"
    reason: str = "dequantizing the rows that are read instead of the whole table"

    def apply(self, network: Network) -> PassReport:
        """The table's DequantizeLinear stays where something else reads it."""
        details: list[str] = []
        declined: list[str] = []
        for node in list(network.layers()):
            table = (
                node.inputs[0].producer() if node.op_type == "Gather" and not node.domain and node.inputs[0] else None
            )
            if table is None or table.op_type != "DequantizeLinear" or table.domain or not _is_constant(table):
                continue
            if why := _obstacle(node, table):
                declined.append(f"{node.name}: {why}")
                continue
            _exchange(network, node, table)
            details.append(f"{node.name}: before {table.name}")
        return PassReport(name=self.name, changed=len(details), details=tuple(details), declined=tuple(declined))


def _is_constant(table: ir.Node) -> bool:
    return all(value is None or is_constant(value) for value in table.inputs)


def _obstacle(node: ir.Node, table: ir.Node) -> str:
    """Why the two cannot change places; empty if they can."""
    scale, rows, read = static_shape(table.inputs[1]), static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if scale is None or math.prod(scale) != 1:
        return "its table has several scales"
    if rows is None or read is None or math.prod(read) >= math.prod(rows):
        return "it reads as much as there is, or nobody knows how much"
    return ""


def _exchange(network: Network, node: ir.Node, table: ir.Node) -> None:
    quantized, gathered = table.inputs[0], node.outputs[0]
    assert quantized is not None, f"{table.name} dequantizes nothing"
    rows = ir.Node("", "Gather", [quantized, node.inputs[1]], node.attributes.values(), name=f"{node.name}_quantized")
    few = rows.outputs[0]
    few.name = network.fresh(f"{gathered.name}_quantized")
    few.type, few.shape = quantized.type, gathered.shape
    network.graph.insert_before(node, rows)
    wide = ir.Node("", "DequantizeLinear", [few, *table.inputs[1:]], table.attributes.values(), name=node.name)
    parts = [node] if len(table.outputs[0].uses()) > 1 or table.outputs[0].is_graph_output() else [node, table]
    rewire.put(network, wide, node, parts)
