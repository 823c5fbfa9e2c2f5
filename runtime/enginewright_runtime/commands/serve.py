"""`enginewright serve`: plans over HTTP."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from enginewright_runtime.server.app import Listening


def serve(
    plans: Annotated[list[str], typer.Argument(help="Plans: X.plan, name=X.plan or name=URI (s3://, file://).")],
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one (default: 8000).")] = None,
    cache: Annotated[str | None, typer.Option(help="Folder for plans fetched from storage.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processors that one inference may use.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Inferences at once (default: one a processor).")] = None,
    waiting: Annotated[int | None, typer.Option(help="Requests that may wait; more get 503 (default: 256).")] = None,
    max_body: Annotated[str | None, typer.Option(help="Largest request body, as 64MiB (default: 64MiB).")] = None,
    drain_delay: Annotated[
        float | None, typer.Option(help="Seconds to go on accepting after SIGTERM (default: 5).")
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Seconds that requests in flight may take then (default: 25).")
    ] = None,
    access_log: Annotated[float | None, typer.Option(help="Share of requests to log, 0 to 1 (default: 0).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say what is served as one JSON object, when ready.")] = False,
) -> None:
    """Serve plans over HTTP with the Open Inference Protocol v2.

    Every option can also be given as ENGINEWRIGHT_<OPTION>, for example ENGINEWRIGHT_HTTP_PORT; so can
    ENGINEWRIGHT_STORAGE_ENDPOINT, _REGION, _PATH_STYLE and _CA_BUNDLE. Logs go to standard error as JSON, metrics are
    at /metrics. On SIGTERM the server is no longer ready, answers for the drain delay, and ends
    when what is in flight is done.
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
