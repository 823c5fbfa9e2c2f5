"""Plain JSON to and from the API server, for the node agent and the service proxy.

Both pass objects on as they are, so the kubernetes package's models would only cost time; its kubeconfig loading,
TLS and connection pool are used. It must never hide an error: a refused request raises ApiException.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

Json = dict[str, Any]
WATCH_SECONDS = 240
STRATEGIC = "application/strategic-merge-patch+json"
GONE, TOO_MANY = 410, 429
AGAIN_AFTER = 0.2  # seconds


class KubeJson:
    """An asynchronous context manager; use it within one event loop."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls, kubeconfig: Path) -> "KubeJson":
        return cls(await config.new_client_from_config(str(kubeconfig), persist_config=False))

    @property
    def server(self) -> str:
        return str(self._api.configuration.host)

    async def __aenter__(self) -> "KubeJson":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()
        # Transports of TLS close only in the loop's next rounds (aiohttp's documentation, "Graceful shutdown"), and a
        # loop that ends before that leaves them to warn of themselves in whatever test comes next.
        await asyncio.sleep(0.25)

    async def request(self, method: str, path: str, body: Json | None = None, content: str | None = None) -> Json:
        response = await self._send(method, path, body=body, content=content)
        return json.loads(await response.read())

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Json | None = None,
        content: str | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> client.rest.RESTResponse:
        headers = {"Accept": "application/json", "Content-Type": content or "application/json"}
        serialized = await self._api.param_serialize(
            method, path, query_params=query, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        response = await self._api.call_api(*serialized, _request_timeout=timeout)
        if response.status >= 400:
            await response.read()
            raise client.ApiException(http_resp=response, body=response.data.decode(errors="replace"), data=None)
        return response

    async def list_then_watch(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator[tuple[str, Json]]:
        """Endless (event, object) pairs: ("LISTED", list) after each fresh list, then ADDED, MODIFIED, DELETED.

        A watch that ends is taken up where it was; a lost place (410) or connection begins with a list again.
        """
        while True:
            try:
                response = await self._send("GET", path, query=query)
                listed: Json = json.loads(await response.read())
                yield "LISTED", listed
                version = listed["metadata"]["resourceVersion"]
                while True:
                    async for kind, item in self._watch(path, query, version):
                        version = item["metadata"]["resourceVersion"]
                        if kind != "BOOKMARK":
                            yield kind, item
            except client.ApiException as refused:
                if refused.status < 500 and refused.status not in {GONE, TOO_MANY}:
                    raise  # asking again would not help
                await asyncio.sleep(AGAIN_AFTER)
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                await asyncio.sleep(AGAIN_AFTER)

    async def _watch(self, path: str, query: list[tuple[str, str]], version: str) -> AsyncIterator[tuple[str, Json]]:
        more = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(WATCH_SECONDS)),
        ]
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 10)
        response = await self._send("GET", path, query=[*query, *more], timeout=timeout)
        try:
            while line := await response.response.content.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise client.ApiException(status=event["object"].get("code", GONE))
                yield event["type"], event["object"]
        finally:
            response.response.close()
