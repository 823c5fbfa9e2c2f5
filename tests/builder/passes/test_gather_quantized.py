"""Rows are gathered before they are dequantized, where that is the same."""

import numpy as np

from enginewright_builder.passes.gather_quantized import GatherQuantized

HEAD = '<ir_version: 8, opset_import: ["" : 17]> agraph (int64[{rows}] rows) => (float[{out}] y{more}) '
TABLE = np.random.default_rng(3).integers(-128, 128, (64, 8)).astype(np.int8)
ONE = {"table": TABLE, "scale": np.float32(0.037), "zero": np.int8(-5)}
PER_ROW = {"table": TABLE, "scale": np.linspace(0.01, 0.1, 64, dtype=np.float32), "zero": np.zeros(64, np.int8)}


def model(body, rows="2,3", out="2,3,8", more=""):
    return HEAD.format(rows=rows, out=out, more=more) + "{ " + body + " }"


def kinds(network):
    return [node.op_type for node in network.layers()]


def test_only_the_rows_that_are_read_are_dequantized(network_of, applied):
    network = network_of(model("t = DequantizeLinear(table, scale, zero) y = Gather(t, rows)"), **ONE)
    assert applied(GatherQuantized(), network).changed == 1
    assert kinds(network) == ["Gather", "DequantizeLinear"]


def test_columns_may_be_gathered_too(network_of, applied):
    body = "t = DequantizeLinear(table, scale, zero) y = Gather<axis = 1>(t, rows)"
    network = network_of(model(body, rows="2", out="64,2"), **ONE)
    assert applied(GatherQuantized(), network).changed == 1
    assert kinds(network) == ["Gather", "DequantizeLinear"]


def test_a_table_that_something_else_reads_stays_dequantized_for_it(network_of, applied):
    body = "t = DequantizeLinear(table, scale, zero) y = Gather(t, rows) z = Neg(t)"
    network = network_of(model(body, more=", float[64,8] z"), **ONE)
    assert applied(GatherQuantized(), network).changed == 1
    assert sorted(kinds(network)) == ["DequantizeLinear", "DequantizeLinear", "Gather", "Neg"]


def test_a_scale_for_each_row_is_declined(network_of, applied):
    body = "t = DequantizeLinear<axis = 0>(table, scale, zero) y = Gather(t, rows)"
    report = applied(GatherQuantized(), network_of(model(body), **PER_ROW))
    assert report.changed == 0
    assert "several scales" in report.declined[0]


def test_reading_more_than_there_is_is_declined(network_of, applied):
    body = "t = DequantizeLinear(table, scale, zero) y = Gather(t, rows)"
    report = applied(GatherQuantized(), network_of(model(body, rows="99", out="99,8"), **ONE))
    assert report.changed == 0
    assert "as much as there is" in report.declined[0]
