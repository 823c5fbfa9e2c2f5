"""`enginewright sign` and `enginewright verify`: who stands for a plan."""

import json
from pathlib import Path
from typing import Annotated

import typer


def sign(
    plan: Annotated[Path, typer.Argument(help="The plan to sign.")],
    key: Annotated[Path, typer.Option(help="The private key: a PEM file with an ed25519 key, not encrypted.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the key's id as one JSON object.")] = False,
) -> None:
    """Sign a plan: the file gets one signature more, and one of the same key is replaced.

    Nothing else of the plan changes, so what others signed stays valid.

    Examples:
        openssl genpkey -algorithm ed25519 -out team.key
        openssl pkey -in team.key -pubout -out team.pub
        enginewright sign model.plan --key team.key
        enginewright sign model.plan --key second.key --json
    """
    from enginewright_runtime.errors import StorageError
    from enginewright_runtime.plan import container
    from enginewright_runtime.signing import keys

    signer = keys.read_private(key)
    try:
        container.add_signature(plan, signer)
    except OSError as error:
        raise StorageError(f"The plan {plan} cannot be signed ({error.strerror}): make room beside it.") from error
    typer.echo(json.dumps({"key": signer.public.id}) if as_json else f"{plan} is signed by the key {signer.public.id}.")


def verify(
    plan: Annotated[Path, typer.Argument(help="The plan to verify.")],
    key: Annotated[list[Path], typer.Option(help="A trusted public key (PEM), or a folder of them; again for more.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the signer's id as one JSON object.")] = False,
) -> None:
    """Verify that a trusted key signed the plan, and that no byte of it has changed since.

    Ends with exit code 14 (BAD_PLAN) where not.

    Examples:
        enginewright verify model.plan --key team.pub
        enginewright verify model.plan --key old.pub --key new.pub
    """
    from enginewright_runtime.plan.container import PlanFile
    from enginewright_runtime.signing import keys
    from enginewright_runtime.signing.trust import Policy, Trust

    trust = Trust(policy=Policy.REQUIRE, keys=tuple(public for each in key for public in keys.read_public(each)))
    with PlanFile(plan, check=trust.check) as file:
        file.verify()
        signer = trust.signer(plan, file.header.signed, file.signatures)
    typer.echo(json.dumps({"key": signer.id}) if as_json else f"{plan} is what the key {signer.id} signed.")
