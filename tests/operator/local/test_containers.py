"""A rendered container becomes a command of this machine: paths, environment, Secrets."""

import pytest

from enginewright_operator.errors import ManifestError
from enginewright_operator.local import containers


def pod(*, args=(), env=(), volumes=(), mounts=()):
    return {
        "containers": [
            {"command": ["enginewright"], "args": list(args), "env": list(env), "volumeMounts": list(mounts)}
        ],
        "volumes": list(volumes),
    }


SCRATCH = {"volumes": [{"name": "s", "emptyDir": {}}], "mounts": [{"name": "s", "mountPath": "/scratch"}]}


@pytest.fixture
def words_of(given, tmp_path, engine_text, secret_text):
    def make(**parts):
        return containers.words_of(pod(**parts), tmp_path / "pod", given(engine_text, secret_text))

    return make


def test_a_mount_path_becomes_its_folder_in_arguments_and_environment(words_of, tmp_path) -> None:
    made = words_of(args=["--cache", "/scratch/x"], env=[{"name": "TMPDIR", "value": "/scratch"}], **SCRATCH)
    folder = tmp_path / "pod" / "volumes" / "s"
    assert made.words[1:] == ("--cache", f"{folder}/x")
    assert made.environment["TMPDIR"] == str(folder)
    assert folder.is_dir()


@pytest.mark.parametrize("text", ["/scratchy", "s3://b/scratch/x", "m=file:///scratch/x", "a/scratch"])
def test_what_only_contains_a_mount_path_stays(words_of, text) -> None:
    assert words_of(args=[text], **SCRATCH).words[1] == text


def test_a_path_that_is_a_whole_text_of_json_is_replaced(words_of, tmp_path) -> None:
    made = words_of(env=[{"name": "R", "value": '{"a":"/scratch/ca.crt","b":"file:///scratch/x"}'}], **SCRATCH)
    assert made.environment["R"] == f'{{"a":"{tmp_path}/pod/volumes/s/ca.crt","b":"file:///scratch/x"}}'


def test_the_termination_message_lies_in_the_pods_folder(words_of, tmp_path) -> None:
    made = words_of(env=[{"name": "T", "value": "/dev/termination-log"}])
    assert made.environment["T"] == str(made.termination_log) == str(tmp_path / "pod" / "termination-log")


def test_the_pods_address_is_this_machines(words_of) -> None:
    env = [{"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    assert words_of(env=env).environment["HOST"] == "127.0.0.1"


def test_another_field_of_the_pod_is_refused(words_of) -> None:
    with pytest.raises(ManifestError, match=r"'spec\.nodeName' has no meaning here"):
        words_of(env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}])


def secret_key(key, *, name="keys", **more):
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}]


def test_a_secrets_key_becomes_its_value_and_does_not_show(words_of) -> None:
    made = words_of(env=secret_key("AWS_SECRET_ACCESS_KEY"))
    assert made.environment["AWS_SECRET_ACCESS_KEY"] == "the secret"
    assert "the secret" not in repr(made)


def test_an_optional_key_that_is_absent_sets_nothing(words_of) -> None:
    assert words_of(env=secret_key("AWS_SESSION_TOKEN", optional=True)).environment == {}


def test_a_key_that_is_absent_is_refused_with_those_there_are(words_of) -> None:
    with pytest.raises(ManifestError, match=r"Secret 'keys' has no key 'X', it has AWS_ACCESS_KEY_ID, AWS_SECRET"):
        words_of(env=secret_key("X"))


def test_a_secret_that_is_absent_is_refused(words_of) -> None:
    with pytest.raises(ManifestError, match="The Secret 'other' is not in"):
        words_of(env=secret_key("X", name="other"))


def test_a_secret_volume_holds_its_items(words_of, tmp_path) -> None:
    items = [{"key": "AWS_ACCESS_KEY_ID", "path": "ca.crt"}]
    words_of(volumes=[{"name": "ca", "secret": {"secretName": "keys", "items": items}}])
    assert (tmp_path / "pod/volumes/ca/ca.crt").read_text() == "key-id"


def test_a_config_map_that_is_absent_is_refused(words_of) -> None:
    with pytest.raises(ManifestError, match="The ConfigMap 'ca' is not in"):
        words_of(volumes=[{"name": "ca", "configMap": {"name": "ca", "items": [{"key": "k", "path": "p"}]}}])


def test_references_to_variables_are_kubernetes_own(words_of) -> None:
    made = words_of(args=["$(A)-$$(A)-$(B)-$A"], env=[{"name": "A", "value": "1"}])
    assert made.words[1] == "1-$(A)-$(B)-$A"
