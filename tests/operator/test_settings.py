"""The operator's settings come from its environment, and a wrong one is named."""

import pytest

import enginewright_runtime
from enginewright_operator import settings
from enginewright_runtime.errors import UsageError


def test_the_images_are_those_of_this_version() -> None:
    assert settings.read().builder_image.endswith(f":{enginewright_runtime.__version__}")


def test_file_uris_are_refused_by_default() -> None:
    assert settings.read().allow_file_uris is False


def test_lists_and_objects_are_json(monkeypatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_OPERATOR_WATCH_NAMESPACES", '["a", "b"]')
    monkeypatch.setenv("ENGINEWRIGHT_OPERATOR_DEFAULT_STORAGE", '{"uri": "s3://b/p", "path_style": true}')
    read = settings.read()
    assert read.watch_namespaces == ("a", "b")
    assert not read.cluster_wide
    assert read.default_storage is not None
    assert read.default_storage.path_style


def test_without_namespaces_the_whole_cluster_is_served() -> None:
    assert settings.read().cluster_wide


def test_a_value_that_does_not_fit_names_its_variable(monkeypatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_OPERATOR_METRICS_PORT", "many")
    with pytest.raises(UsageError, match=r"ENGINEWRIGHT_OPERATOR_METRICS_PORT does not fit: .*got 'many'"):
        settings.read()


def test_a_typo_in_the_default_storage_is_named(monkeypatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_OPERATOR_DEFAULT_STORAGE", '{"uri": "s3://b/p", "regoin": "x"}')
    with pytest.raises(UsageError, match="DEFAULT_STORAGE does not fit at regoin"):
        settings.read()


def test_what_is_no_json_is_said_to_be_so(monkeypatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_OPERATOR_WATCH_NAMESPACES", "a,b")
    with pytest.raises(UsageError, match="lists and objects must be JSON"):
        settings.read()
