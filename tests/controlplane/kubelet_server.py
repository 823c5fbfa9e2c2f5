"""The one page of a kubelet's own server that people need: `kubectl logs`.

The API server asks https://<node>:<port>/containerLogs/<namespace>/<pod>/<container> and, as set up here, does not
verify the certificate.
"""

import asyncio
import ssl
from pathlib import Path

from aiohttp import web
from controlplane.certificates import write_certificates


async def serve_logs(folder: Path) -> int:
    """Serves the logs under `folder` for as long as the event loop lives; returns its port."""
    keys = folder / "kubelet"
    keys.mkdir(parents=True, exist_ok=True)
    certificates = write_certificates(keys)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.server, certificates.server_key)
    application = web.Application()
    application["folder"] = folder
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", container_logs)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return int(runner.addresses[0][1])


async def container_logs(request: web.Request) -> web.StreamResponse:
    """Understands `previous`, `tailLines` and `follow`."""
    where, query = request.match_info, request.query
    logs = log_files(request.app["folder"], where["namespace"], where["pod"], where["container"])
    back = 2 if query.get("previous") == "true" else 1
    if len(logs) < back:
        return web.Response(status=404, text=f"no log of container {where['container']} in pod {where['pod']}\n")
    lines = logs[-back].read_bytes().splitlines(keepends=True)
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(b"".join(lines[-int(query["tailLines"]) :] if "tailLines" in query else lines))
    sent = sum(map(len, lines))
    while query.get("follow") == "true":
        await asyncio.sleep(0.2)
        more = logs[-back].read_bytes()[sent:]
        sent += len(more)
        await response.write(more)
    return response


def log_files(folder: Path, namespace: str, pod: str, container: str) -> list[Path]:
    """The logs of one container, the oldest run first; of the newest Pod where several had that name."""
    pods = sorted((folder / "pods").glob(f"{namespace}_{pod}_*"), key=lambda path: path.stat().st_mtime)
    return sorted(pods[-1].glob(f"{container}/*.log"), key=lambda path: int(path.stem)) if pods else []
