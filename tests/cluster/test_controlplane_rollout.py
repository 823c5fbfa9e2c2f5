"""The service proxy loses no request while Pods come and go: a later test may then blame the server it tests."""

import threading
import urllib.request

import pytest

pytestmark = pytest.mark.cluster

# Serves until SIGTERM; a preStop hook keeps it up while its endpoint is taken out of the Service.
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server((os.environ["HOST"], 8080), Handler).serve_forever()
"""


def deployment():
    container = {
        "name": "main",
        "image": "not.used/by:the-node-agent",
        "command": ["python", "-c", SERVER],
        "env": [
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 10}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod_security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], "securityContext": pod_security},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }


class ConstantRequests:
    """Asks again and again from one thread, each time on a new connection; `names` answered, `failures` happened."""

    def __init__(self, url):
        self.url, self.names, self.failures, self.count = url, set(), [], 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _ask(self):
        while not self._end.wait(0.005):
            try:
                with urllib.request.urlopen(self.url, timeout=60) as response:
                    self.names.add(response.read().decode())
            except OSError as failure:
                self.failures.append(repr(failure))
            self.count += 1


@pytest.mark.usefixtures("node_agent")
def test_no_request_fails_while_every_pod_of_a_service_is_replaced(
    control_plane, namespace, kubectl, service_proxy, eventually
):
    service = {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service}, namespace
    )
    control_plane.apply(deployment(), namespace)
    kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=300s")

    with service_proxy(namespace, "web") as proxy, ConstantRequests(proxy.url) as requests:
        eventually(lambda: len(requests.names) == 2 and requests.count > 25)
        kubectl("rollout", "restart", "deployment/web", "-n", namespace)
        kubectl("rollout", "status", "deployment/web", "-n", namespace, "--timeout=300s")
        after = requests.count
        eventually(lambda: len(requests.names) == 4 and requests.count > after + 25)

    assert requests.failures == []
    assert proxy.refused == 0
