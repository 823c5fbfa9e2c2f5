"""Signing: what the chart tells the operator, and what it refuses."""

from charts.chart import refusal, render

from enginewright_operator.settings import PREFIX


def test_by_default_nothing_is_signed_and_nothing_is_asked():
    told = render().environment()
    assert [name for name in told if "SIGN" in name or "TRUSTED" in name] == []


def test_a_policy_and_its_keys_are_told_to_the_operator():
    told = render(
        {"signing": {"policy": "require", "secret": "plan-signing", "trustedKeys": "plan-keys"}}
    ).environment()
    assert told[PREFIX + "SIGNATURE_POLICY"] == "require"
    assert told[PREFIX + "SIGNING_SECRET"] == "plan-signing"
    assert told[PREFIX + "TRUSTED_KEYS"] == "plan-keys"


def test_a_policy_without_keys_is_refused():
    assert "signing.trustedKeys names no ConfigMap" in refusal({"signing": {"policy": "warn"}})
