"""A server serves what trusted keys signed, by its policy, and says which plan it refused and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginewright_runtime.errors import SignatureError
from enginewright_runtime.plan import container
from enginewright_runtime.server import app, settings, sources
from enginewright_runtime.signing import keys

Pairs = Callable[[str], tuple[Path, Path]]


def load(plan: Path, policy: str, public: Path) -> str:
    """Load a plan as the server does; the name of the model that it then serves."""
    read = settings.read(signature_policy=policy, trusted_keys=public, threads=1)
    model = app.load(sources.Source(name="m", uri=str(plan)), read, app._check(read))
    model.engine.close()
    return model.name


def test_the_policy_decides_what_becomes_of_an_unsigned_plan(
    make_plan: Callable[..., Path], models: Any, key_pair: Pairs
) -> None:
    plan, (private, public) = make_plan(models.small()), key_pair("team")
    assert load(plan, "off", public) == load(plan, "warn", public) == "m"
    with pytest.raises(SignatureError, match="is not signed"):
        load(plan, "require", public)
    container.add_signature(plan, keys.read_private(private))
    assert load(plan, "require", public) == "m"
