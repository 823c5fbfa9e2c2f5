"""`enginewright sign` and `verify`, as a person who knows cosign expects them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from enginewright_runtime import cli
from enginewright_runtime.plan.outcome import Outcome

Pairs = Callable[[str], tuple[Path, Path]]


def test_sign_and_verify_name_the_same_key(plan: Path, key_pair: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = key_pair("team")
    assert cli.main(["sign", str(plan), "--key", str(private), "--json"]) == Outcome.DONE
    assert cli.main(["verify", str(plan), "--key", str(public), "--json"]) == Outcome.DONE
    by, found = (json.loads(line)["key"] for line in capsys.readouterr().out.splitlines())
    assert by == found


def test_verify_fails_for_an_unsigned_plan(plan: Path, key_pair: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(plan), "--key", str(key_pair("team")[1])]) == Outcome.BAD_PLAN
    assert "is not signed" in capsys.readouterr().err


def test_keys_and_their_ids_are_those_of_openssl(
    plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def openssl(*words: str) -> bytes:
        try:
            return subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True).stdout
        except FileNotFoundError:
            pytest.skip("openssl is not on this machine, so keys that it made are not tried")

    openssl("genpkey", "-algorithm", "ed25519", "-out", "o.key")
    openssl("pkey", "-in", "o.key", "-pubout", "-out", "o.pub")
    der = openssl("pkey", "-pubin", "-in", "o.pub", "-outform", "DER")
    assert cli.main(["sign", str(plan), "--key", str(tmp_path / "o.key"), "--json"]) == Outcome.DONE
    from hashlib import sha256

    assert json.loads(capsys.readouterr().out)["key"] == sha256(der).hexdigest()
    assert cli.main(["verify", str(plan), "--key", str(tmp_path / "o.pub")]) == Outcome.DONE


def test_inspect_names_the_keys_that_signed(plan: Path, key_pair: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    private, _ = key_pair("team")
    assert cli.main(["inspect", str(plan)]) == Outcome.DONE
    assert "signed by" not in capsys.readouterr().out
    cli.main(["sign", str(plan), "--key", str(private), "--json"])
    key = json.loads(capsys.readouterr().out)["key"]
    assert cli.main(["inspect", str(plan)]) == Outcome.DONE
    assert key in capsys.readouterr().out
