"""The bench of start times: what it asks a server, and what it makes of several runs."""

import json

import numpy as np
import start_times

from enginewright_runtime.plan.manifest import Binding


def test_a_request_has_a_value_for_each_element_of_each_input() -> None:
    inputs = (Binding(name="image", dtype="float32", shape=(1, 2, 3)), Binding(name="ids", dtype="int64", shape=(4,)))
    image, ids = json.loads(start_times.request(inputs))["inputs"]
    assert (image["datatype"], image["shape"], np.shape(image["data"])) == ("FP32", [1, 2, 3], (6,))
    assert (ids["datatype"], ids["data"]) == ("INT64", [0, 0, 0, 0])


def test_each_stretch_has_the_median_the_least_and_the_most_of_its_runs() -> None:
    found = start_times.medians([{"load": 3.0}, {"load": 1.0}, {"load": 2.5}])
    assert found == {"load": {"median": 2.5, "least": 1.0, "most": 3.0}}
    assert start_times.table(found)[2] == "| load | 2.500 | 1.000 | 3.000 |"
