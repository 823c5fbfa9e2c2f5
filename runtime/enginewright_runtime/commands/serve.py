"""`enginewright serve`: plans over HTTP."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from enginewright_runtime.server.app import Listening


def serve(
    plans: Annotated[
        list[str],
        typer.Argument(
            help="What to serve: X.plan, or NAME=X.plan or NAME=URI (s3://, file://) to say the model's name, "
            "which is the file's otherwise.",
        ),
    ],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 for every one. Default: 127.0.0.1.")
    ] = None,
    http_port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. Default: 8000.")] = None,
    cache: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where plans fetched from storage are kept. Default: the user's cache."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="At most so many processors for one inference. Default: all there are.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Inferences at once. Default: one for each processor.")
    ] = None,
    waiting: Annotated[
        int | None, typer.Option(help="Requests that may wait for a turn; more get 503. Default: 256.")
    ] = None,
    max_body: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Largest request body, in bytes or as 64MiB; more gets 413. Default: 64MiB."),
    ] = None,
    drain_delay: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long to go on accepting requests after SIGTERM. Default: 5."),
    ] = None,
    drain_timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long requests in flight may take after that. Default: 25."),
    ] = None,
    trusted_keys: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Public keys (PEM), a file or a folder, whose signed plans are trusted."),
    ] = None,
    signature_policy: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="Plans that no trusted key signed: require, warn or off. Default: off."),
    ] = None,
    allow_plugins: Annotated[
        bool | None,
        typer.Option("--allow-plugins", help="Let plans run Python that they carry (their plugins). Default: refused."),
    ] = None,
    access_log: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the requests to log: 0 for none, 1 for all. Default: 0."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="When ready, print what is served, and where, as one JSON object.")
    ] = False,
) -> None:
    """Serve plans over HTTP with the Open Inference Protocol v2.

    Logs go to standard error as JSON; metrics are at /metrics. On SIGTERM the server is no longer ready, goes on
    answering for the drain delay, and ends when what is in flight is done.

    Every option can also be given in the environment, as ENGINEWRIGHT_ and its name: ENGINEWRIGHT_HTTP_PORT=8080. So
    can how to reach storage: ENGINEWRIGHT_STORAGE_ENDPOINT, _REGION, _PATH_STYLE and _CA_BUNDLE; its credentials are
    those that AWS tools use.

    Examples:
        enginewright serve model.plan --http-port 8080
        enginewright serve cat=model.plan dog=s3://engines/dog.plan
        curl localhost:8080/v2/models/model
    """
    import asyncio

    from enginewright_runtime.server import app, settings, sources

    read = settings.read(
        host=host,
        http_port=http_port,
        cache=cache,
        threads=threads,
        concurrency=concurrency,
        waiting=waiting,
        max_body=max_body,
        drain_delay=drain_delay,
        drain_timeout=drain_timeout,
        trusted_keys=trusted_keys,
        signature_policy=signature_policy,
        allow_plugins=allow_plugins,
        access_log=access_log,
    )
    announce = _announce_as_json if as_json else _announce
    asyncio.run(app.serve(read, sources.parse(plans), announce))


def _announce(listening: "Listening") -> None:
    if not listening.ready:
        _say(f"Listening on {listening.url}; loading.")
        return
    for model in listening.models:
        inputs = ", ".join(f"{b.name} {b.dtype}" for b in model.inputs)
        _say(f"Serving {model.name} (version {model.version}; {inputs}) at {listening.url}/v2/models/{model.name}")
    _say("Ready.")


def _announce_as_json(listening: "Listening") -> None:
    if listening.ready:
        models = [{"name": model.name, "version": model.version} for model in listening.models]
        _say(json.dumps({"url": listening.url, "models": models}))


def _say(line: str) -> None:
    typer.echo(line)  # echo flushes, so that whoever reads a pipe learns the port at once
