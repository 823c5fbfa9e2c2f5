"""Where keys are mounted: the private one in build pods alone, the public ones where plans are served."""

import pytest

from enginewright_operator import recipes
from enginewright_operator.render import build_job, serving
from enginewright_operator.settings import Settings, read
from enginewright_runtime.errors import UsageError


@pytest.fixture
def signed() -> Settings:
    return Settings(signature_policy="require", signing_secret="plan-signing", trusted_keys="plan-keys")


def test_a_build_pod_gets_the_private_key_as_a_file_that_its_group_alone_reads(
    make_engine, make_class, make_plan, signed
) -> None:
    plan = make_plan(make_engine(), make_class())
    pod = build_job.build_job(plan, recipes.build_request(plan), make_class(), signed)["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if each["name"] == "signing"]
    items = [{"key": "signing.key", "path": "signing.key"}]
    assert volume["secret"] == {"secretName": "plan-signing", "items": items, "defaultMode": 0o440}
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["ENGINEWRIGHT_SIGN_KEY"] == "/etc/enginewright/signing/signing.key"
    assert "plan-keys" not in str(pod)


def test_a_serving_pod_gets_the_policy_and_the_public_keys_and_never_the_private_one(
    make_engine, make_class, signed
) -> None:
    engine = make_engine()
    rendered = serving.deployment(engine, engine.spec.targets[0], "s3://e/p", "0" * 64, make_class(), signed)
    pod = rendered["spec"]["template"]["spec"]
    environment = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert environment["ENGINEWRIGHT_SIGNATURE_POLICY"] == "require"
    assert environment["ENGINEWRIGHT_TRUSTED_KEYS"] == "/etc/enginewright/trusted-keys"
    assert {"name": "trusted-keys", "configMap": {"name": "plan-keys"}} in pod["volumes"]
    assert "plan-signing" not in str(pod)


def test_a_policy_without_keys_is_no_setting() -> None:
    with pytest.raises(UsageError, match=r"TRUSTED_KEYS does not fit.*needs a ConfigMap"):
        read(signature_policy="require")
