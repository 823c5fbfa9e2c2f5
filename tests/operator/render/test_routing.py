"""What a Gateway is told of an engine: two Services and their weights."""

import pytest

from enginewright_operator.render import names, routing, serving

ROUTE = {"route": {"parentRefs": [{"name": "edge", "sectionName": "https"}], "hostnames": ["vision.example.com"]}}


def test_without_a_route_there_is_nothing_of_it(make_engine, settings) -> None:
    assert routing.routing(make_engine(), settings, weight=0) == []


def test_requests_are_divided_by_weight_between_the_services_of_both_tracks(make_engine, settings) -> None:
    *services, route = routing.routing(make_engine(serving=ROUTE), settings, weight=20)
    (rule,) = route["spec"]["rules"]
    assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
        ("resnet50-stable", 80),
        ("resnet50-canary", 20),
    ]
    assert [each["metadata"]["name"] for each in services] == ["resnet50-stable", "resnet50-canary"]
    assert [each["spec"]["selector"][names.TRACK_LABEL] for each in services] == ["stable", "canary"]


def test_the_gateway_and_the_host_names_are_the_manifests(make_engine, settings) -> None:
    route = routing.routing(make_engine(serving=ROUTE), settings, weight=0)[-1]
    assert route["spec"]["parentRefs"] == [{"name": "edge", "sectionName": "https"}]
    assert route["spec"]["hostnames"] == ["vision.example.com"]


@pytest.mark.parametrize("engine", ["e", "x" * 56, "x" * 60, "a.b", "9lives"])
def test_the_services_of_an_engine_have_names_of_their_own_that_fit(engine) -> None:
    made = {names.service_name(engine, track) for track in (None, *serving.Track)}
    assert len(made) == 3
    assert all(len(name) <= 63 for name in made)
