"""Open Inference Protocol v2 over HTTP: routes to the data plane, and errors to status codes in one table.

Thin on purpose: what a body means is in `protocol`, what a model does in `dataplane`.
"""

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

import enginewright_runtime
from enginewright_runtime.errors import EnginewrightError, InputError
from enginewright_runtime.server import metrics as metrics_module
from enginewright_runtime.server import protocol
from enginewright_runtime.server.dataplane import (
    Dataplane,
    Model,
    ModelMissingError,
    NotReadyError,
    OverloadedError,
    State,
)

# What an error means to an HTTP client; the first that fits counts, and any other of ours is a 500.
STATUS: tuple[tuple[type[EnginewrightError], int], ...] = (
    (InputError, 400),  # the request itself is wrong
    (ModelMissingError, 404),
    (OverloadedError, 503),  # come back
    (NotReadyError, 503),
)
RETRY_AFTER = "1"  # seconds; a queue of a bounded length has moved on by then

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """The HTTP face of a data plane."""

    def __init__(
        self, dataplane: Dataplane, metrics: metrics_module.Metrics, *, max_body: int, access_log: float
    ) -> None:
        """`max_body` is in bytes, `access_log` the share of requests that are logged."""
        self._dataplane = dataplane
        self._metrics = metrics
        self._max_body = max_body
        self._access_log = access_log
        self._log = structlog.get_logger("rest")
        self.in_flight = 0

    def application(self) -> web.Application:
        """An aiohttp application with every route."""
        application = web.Application(client_max_size=self._max_body, middlewares=[self._answer])
        model = "/v2/models/{model}"
        for base in (model, f"{model}/versions/{{version}}"):
            application.router.add_get(base, self._model_metadata)
            application.router.add_get(f"{base}/ready", self._model_ready)
            application.router.add_post(f"{base}/infer", self._infer)
        application.router.add_get("/v2", self._server_metadata)
        application.router.add_get("/v2/health/live", self._live)
        application.router.add_get("/v2/health/ready", self._ready)
        application.router.add_post("/v2/repository/index", self._index)
        application.router.add_get("/metrics", self._scrape)
        return application

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around every request: counts it, turns errors into answers, and closes connections while draining."""
        started = time.perf_counter()
        self.in_flight += 1
        status = 500
        if inference := request.path.endswith("/infer"):
            self._metrics.in_flight.inc()
        try:
            response = await self._answered(request, handler)
            status = response.status
            if identity := request.headers.get("X-Request-Id"):
                response.headers["X-Request-Id"] = identity
            if self._dataplane.state is State.DRAINING:
                response.force_close()  # so that the client's next request goes to another replica
            return response
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            if inference:
                self._metrics.in_flight.dec()
                self._metrics.answered(self._known(request), status, seconds)
            if self._access_log and random.random() < self._access_log:
                self._log_access(request, status, seconds)

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except EnginewrightError as error:
            status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
            if status == 500:
                identity = request.headers.get("X-Request-Id", "")
                self._log.error("request failed", path=request.path, error=error.message, request_id=identity)
            return _error(status, error.message)
        except web.HTTPRequestEntityTooLarge:
            return self._too_large("more than that")
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            message = f"{request.path} does not take {request.method}: use {allowed}."
            return _error(405, message, headers={"Allow": allowed})
        except web.HTTPNotFound:
            return _error(404, f"There is nothing at {request.path}: the protocol's paths begin with /v2.")
        except web.HTTPException as error:
            return _error(error.status, f"{error.reason}.")

    async def _infer(self, request: web.Request) -> web.StreamResponse:
        model = self._model(request)
        if (request.content_length or 0) > self._max_body:
            return self._too_large(f"{request.content_length} bytes")
        asked = protocol.decode(await _body(request), request.headers.get(protocol.HEADER_LENGTH))
        protocol.check_datatypes(asked, model.inputs)
        chosen = protocol.choose(asked, model.outputs)
        inference = await self._dataplane.infer(model, asked.inputs)
        self._metrics.inferred(model.name, inference)
        answer = protocol.encode(
            inference.outputs, chosen, model=model.name, version=model.version, request_id=asked.id
        )
        if answer.header_length is None:
            return web.Response(body=b"".join(answer.body), content_type="application/json")
        headers = {protocol.HEADER_LENGTH: str(answer.header_length), "Content-Type": "application/octet-stream"}
        return web.Response(body=b"".join(answer.body), headers=headers)

    async def _server_metadata(self, _request: web.Request) -> web.Response:
        version = enginewright_runtime.__version__
        return web.json_response({"name": "enginewright", "version": version, "extensions": [*protocol.EXTENSIONS]})

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        ready = self._dataplane.state is State.READY
        return web.json_response({"ready": ready, "state": self._dataplane.state}, status=200 if ready else 503)

    async def _model_metadata(self, request: web.Request) -> web.Response:
        model = self._model(request)
        return web.json_response(
            {
                "name": model.name,
                "versions": self._dataplane.versions(model.name),
                "platform": f"enginewright_{model.engine.manifest.target.kind}",
                "inputs": protocol.metadata(model.inputs),
                "outputs": protocol.metadata(model.outputs),
                "parameters": model.facts,  # beyond the protocol, which lets clients ignore it
            }
        )

    async def _model_ready(self, request: web.Request) -> web.Response:
        model = self._model(request)
        ready = self._dataplane.state is State.READY
        return web.json_response({"name": model.name, "ready": ready}, status=200 if ready else 503)

    async def _index(self, _request: web.Request) -> web.Response:
        state = "READY" if self._dataplane.state is State.READY else "UNAVAILABLE"
        models = [
            {"name": m.name, "version": m.version, "state": state, "reason": ""} for m in self._dataplane.models()
        ]
        return web.json_response(models)

    async def _scrape(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": metrics_module.CONTENT_TYPE})

    def _model(self, request: web.Request) -> Model:
        return self._dataplane.find(request.match_info["model"], request.match_info.get("version", ""))

    def _too_large(self, got: str) -> web.Response:
        return _error(
            413, f"The body may have {self._max_body} bytes, got {got}: send less at once, or start with --max-body."
        )

    def _known(self, request: web.Request) -> str:
        name = request.match_info.get("model", "")
        return name if any(model.name == name for model in self._dataplane.models()) else ""

    def _log_access(self, request: web.Request, status: int, seconds: float) -> None:
        self._log.info(
            "request",
            method=request.method,
            path=request.path,
            status=status,
            milliseconds=round(seconds * 1e3, 3),
            request_id=request.headers.get("X-Request-Id", ""),
        )


async def _body(request: web.Request) -> bytes:
    """The whole body. Raises InputError where it is not what its headers say."""
    try:
        return await request.read()
    except web.RequestPayloadError as error:
        request.content.feed_eof()  # or aiohttp reads on, meets the same error, and logs it as a defect of ours
        reason = " ".join(str(error).split())
        raise InputError(f"The body cannot be read as its headers say ({reason}): check Content-Encoding.") from error


def _error(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    extra: dict[str, Any] = dict(headers or {})
    if status == 503:
        extra["Retry-After"] = RETRY_AFTER
    return web.json_response({"error": message}, status=status, headers=extra)
