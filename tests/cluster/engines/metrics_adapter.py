"""A stand-in for an adapter of the custom metrics API: what the pods' own /metrics say, at the moment of asking.

The API server's aggregator, the HorizontalPodAutoscaler's controller and their rights are the real ones. Real adapters
(prometheus-adapter, KEDA) ask Prometheus instead of the pods. The aggregator finds this process by a Service of the
type ExternalName: a ClusterIP would need a kube-proxy.
"""

import datetime
import http.server
import json
import ssl
import threading
import urllib.parse
import urllib.request
from types import TracebackType
from typing import Any

from controlplane.cluster import ControlPlane
from prometheus_client.parser import text_string_to_metric_families

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
METRIC = "enginewright_requests_in_flight"


class MetricsAdapter:
    """Context manager: registered with the aggregator while inside. `asked_by` are the users that asked for values."""

    def __init__(self, cluster: ControlPlane, namespace: str, pod_proxy: str) -> None:
        self._cluster, self._namespace = cluster, namespace
        proxies = urllib.request.ProxyHandler({"http": pod_proxy})
        self._pods = urllib.request.build_opener(proxies)
        self.asked_by: set[str] = set()

    def __enter__(self) -> "MetricsAdapter":
        adapter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                adapter._answer(self)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._cluster.folder / "apiserver.crt", self._cluster.folder / "apiserver.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics adapter", daemon=True)
        self._thread.start()
        self._register(self._server.server_address[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # One that is registered and does not answer keeps every namespace from being deleted.
        self._cluster.kubectl("delete", "apiservice", f"{VERSION}.{GROUP}")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(150)

    def _register(self, port: int) -> None:
        service = {"name": "metrics-adapter", "namespace": self._namespace}
        named = {"type": "ExternalName", "externalName": "localhost"}
        self._cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": named})
        spec = {
            "group": GROUP,
            "version": VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": service | {"port": port},
        }
        metadata = {"name": f"{VERSION}.{GROUP}"}
        self._cluster.apply(
            {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec}
        )
        self._cluster.kubectl("wait", "apiservice", metadata["name"], "--for=condition=Available", "--timeout=200s")

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        parts = urllib.parse.unquote(path).strip("/").split("/")
        if parts == ["apis", GROUP, VERSION]:
            self._say(request, 200, resources())
        elif parts[3:4] == ["namespaces"] and parts[5:] == ["pods", "*", METRIC]:
            self.asked_by.add(request.headers.get("X-Remote-User", ""))
            selector = urllib.parse.parse_qs(query).get("labelSelector", [""])[0]
            self._say(request, 200, self._values(parts[4], selector))
        else:
            self._say(request, 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

    @staticmethod
    def _say(request: http.server.BaseHTTPRequestHandler, code: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _values(self, namespace: str, selector: str) -> dict[str, Any]:
        where = ("--namespace", namespace, f"--selector={selector}", "--output=json")
        pods = json.loads(self._cluster.kubectl("get", "pods", *where))["items"]
        items = [
            {
                "describedObject": {"kind": "Pod", "apiVersion": "/v1", "namespace": namespace, "name": name},
                "metric": {"name": METRIC},
                "timestamp": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "value": str(value),
            }
            for name, value in ((pod["metadata"]["name"], self._value(pod)) for pod in pods)
            if value is not None
        ]
        return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}

    def _value(self, pod: dict[str, Any]) -> int | None:
        """The pod's own figure; None of one that does not answer, as where nothing was scraped yet."""
        address = pod["status"].get("podIP")
        ports = {row["name"]: row["containerPort"] for row in pod["spec"]["containers"][0]["ports"]}
        if not address:
            return None
        try:
            with self._pods.open(f"http://{address}:{ports['http']}/metrics", timeout=60) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except OSError:
            return None
        (value,) = (sample.value for family in families for sample in family.samples if sample.name == METRIC)
        return int(value)


def resources() -> dict[str, Any]:
    """What discovery is told."""
    row = {"name": f"pods/{METRIC}", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
    row["singularName"] = ""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{VERSION}",
        "resources": [row],
    }
