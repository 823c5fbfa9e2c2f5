"""A signature covers every byte of a plan, is checked before the plan is read, and keys can change without a gap."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from enginewright_runtime.errors import SignatureError, UsageError
from enginewright_runtime.plan import container, records
from enginewright_runtime.plan.container import PlanFile
from enginewright_runtime.signing import keys
from enginewright_runtime.signing.trust import Policy, Trust, trust

KeyPair = tuple[Path, Path]
Pairs = Callable[[str], KeyPair]


def trusting(*public: Path, policy: Policy = Policy.REQUIRE) -> Trust:
    return Trust(policy=policy, keys=tuple(key for path in public for key in keys.read_public(path)))


def signed(plan: Path, *private: Path) -> Path:
    for path in private:
        container.add_signature(plan, keys.read_private(path))
    return plan


def opened(plan: Path, who: Trust) -> bytes:
    with PlanFile(plan, check=who.check) as file:
        file.verify()
        return bytes(file.blob("b"))


def test_a_plan_signed_by_a_trusted_key_is_read(plan: Path, key_pair: Pairs) -> None:
    private, public = key_pair("team")
    assert opened(signed(plan, private), trusting(public)) == b"bytes"


def test_a_signed_plan_can_be_read_by_who_trusts_nobody(plan: Path, key_pair: Pairs) -> None:
    private, _ = key_pair("team")
    with PlanFile(signed(plan, private)) as file:
        assert bytes(file.blob("b")) == b"bytes"


def test_signing_while_writing_gives_the_same_file_as_signing_later(plan: Path, key_pair: Pairs) -> None:
    private, _ = key_pair("team")
    with PlanFile(plan) as file:
        manifest = file.manifest
    container.write(plan.with_name("other.plan"), manifest, {"b": b"bytes"}, sign=keys.read_private(private))
    assert plan.with_name("other.plan").read_bytes() == signed(plan, private).read_bytes()


def test_any_flipped_bit_of_a_signed_plan_is_refused(plan: Path, key_pair: Pairs) -> None:
    private, public = key_pair("team")
    content, who = signed(plan, private).read_bytes(), trusting(public)
    for position, byte in enumerate(content):
        plan.write_bytes(content[:position] + bytes([byte ^ 1 << position % 8]) + content[position + 1 :])
        with pytest.raises(records.PlanError):
            opened(plan, who)


def test_a_plan_whose_manifest_and_digests_were_replaced_is_refused_before_it_is_parsed(
    plan: Path, key_pair: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = key_pair("team")
    with PlanFile(signed(plan, private)) as file:
        signatures, manifest = file.signatures, file.manifest
    # As an attacker who has the bucket but not the key: another plan, whole in itself, with the old signature.
    container.write(plan, manifest, {"b": b"bytes"}, sign=lambda _: signatures[0])
    assert opened(plan, trusting(public)) == b"bytes"
    other = container.layout({"b": b"other"})
    container.write(
        plan, container.Manifest(**_fields(manifest) | {"blobs": other}), {"b": b"other"}, sign=lambda _: signatures[0]
    )
    monkeypatch.setattr(container.records, "from_json", _never(container.records.from_json, "The manifest"))
    with pytest.raises(SignatureError, match="was changed"):
        opened(plan, trusting(public))


def _fields(manifest: container.Manifest) -> dict[str, object]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}


def _never(read: Callable[..., object], what: str) -> Callable[..., object]:
    def checked(cls: type, value: object, **named: str) -> object:
        assert not named["what"].startswith(what), "the manifest was parsed before its signature was checked"
        return read(cls, value, **named)

    return checked


def test_an_unsigned_plan_is_refused_with_the_keys_that_would_do(plan: Path, key_pair: Pairs) -> None:
    _, public = key_pair("team")
    with pytest.raises(SignatureError, match=r"small\.plan is not signed, and the trusted keys are [0-9a-f]{16}: sign"):
        opened(plan, trusting(public))


def test_a_plan_signed_by_somebody_else_is_refused_with_both_keys(plan: Path, key_pair: Pairs) -> None:
    private, _ = key_pair("stranger")
    _, public = key_pair("team")
    stranger = keys.read_private(private).public.id[:16]
    with pytest.raises(SignatureError, match=f"is signed by {stranger}, and the trusted keys are [0-9a-f]{{16}}"):
        opened(signed(plan, private), trusting(public))


def test_warn_says_the_same_and_reads_on(plan: Path, key_pair: Pairs, caplog: pytest.LogCaptureFixture) -> None:
    _, public = key_pair("team")
    with caplog.at_level(logging.WARNING):
        assert opened(plan, trusting(public, policy=Policy.WARN)) == b"bytes"
    assert "is not signed" in caplog.text


def test_keys_rotate_without_a_moment_in_which_a_plan_is_refused(plan: Path, key_pair: Pairs) -> None:
    old, old_public = key_pair("old")
    new, new_public = key_pair("new")
    assert opened(signed(plan, old), trusting(old_public))
    assert opened(plan, trusting(old_public, new_public)), "first: the new key is trusted beside the old one"
    assert opened(signed(plan, new), trusting(old_public, new_public)), "then: plans are signed with the new one too"
    assert opened(plan, trusting(new_public)), "last: the old one is dropped"


def test_signing_twice_with_one_key_leaves_one_signature(plan: Path, key_pair: Pairs) -> None:
    private, _ = key_pair("team")
    once = signed(plan, private).read_bytes()
    assert signed(plan, private).read_bytes() == once


def test_a_folder_of_keys_is_read_as_a_config_map_is_mounted(tmp_path: Path, plan: Path, key_pair: Pairs) -> None:
    private, public = key_pair("team")
    data = tmp_path / "mounted" / "..2026"
    data.mkdir(parents=True)
    (data / "team.pub").write_bytes(public.read_bytes())
    (tmp_path / "mounted" / "..data").symlink_to("..2026")
    (tmp_path / "mounted" / "team.pub").symlink_to("..data/team.pub")
    assert opened(signed(plan, private), trusting(tmp_path / "mounted")) == b"bytes"


def test_a_policy_without_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs public keys"):
        trust(Policy.REQUIRE, None)
    (tmp_path / "keys").mkdir()
    with pytest.raises(UsageError, match="holds no public key"):
        trust(Policy.WARN, tmp_path / "keys")
    assert trust(Policy.OFF, None) is None


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key_is_named_with_how_to_make_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pem").write_bytes(content)
    for read in (keys.read_public, keys.read_private):
        with pytest.raises(UsageError, match=r"x\.pem holds no ed25519 .* openssl genpkey"):
            read(tmp_path / "x.pem")


def test_a_private_key_never_shows_in_words(key_pair: Pairs) -> None:
    private, _ = key_pair("team")
    signer = keys.read_private(private)
    assert private.read_text().splitlines()[1] not in repr(signer) + str(vars(signer))
