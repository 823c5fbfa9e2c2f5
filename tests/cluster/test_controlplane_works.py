"""What the cluster tests stand on: the real control plane, the node agent, the service proxy and helm."""

import json
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.cluster

# What the restricted Pod Security Standard asks of every container and Pod.
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
RESTRICTED_POD = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

SERVER = """
import http.server, os, pathlib, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (os.environ["NAME"] + " " + self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
def stop(*_):
    print("got SIGTERM", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("serving", flush=True)
http.server.ThreadingHTTPServer((os.environ["HOST"], 8080), Handler).serve_forever()
"""


def container(*command, **more):
    return {
        "name": "main",
        "image": "not.used/by:the-node-agent",
        "command": list(command),
        "securityContext": RESTRICTED_CONTAINER,
        **more,
    }


def pod_spec(*command, restart_policy="Never", **more):
    return {
        "restartPolicy": restart_policy,
        "securityContext": RESTRICTED_POD,
        "containers": [container(*command, **more)],
    }


def pod(name, *command, **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(*command, **more)}


def job(name, *command, **more):
    env = [{"name": "MESSAGE_FILE", "value": "/dev/termination-log"}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod_spec(*command, env=env)}, **more},
    }


def web_deployment(replicas):
    port = {"name": "http", "containerPort": 8080}
    env = [
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    probe = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1}
    spec = pod_spec("python", "-c", SERVER, restart_policy="Always", env=env, ports=[port], readinessProbe=probe)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec},
        },
    }


WEB_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
}


def only_pod(control_plane, namespace, selector):
    items = json.loads(control_plane.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return items[0] if len(items) == 1 else None


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read().decode()


@pytest.mark.usefixtures("node_agent")
def test_a_jobs_exit_code_and_termination_message_arrive(control_plane, namespace, eventually):
    control_plane.apply(job("build", "sh", "-c", 'printf "seven" > "$MESSAGE_FILE"; exit 7', backoffLimit=0), namespace)

    ended = eventually(
        lambda: (
            (found := only_pod(control_plane, namespace, "job-name=build"))
            and found["status"]["phase"] == "Failed"
            and found["status"]["containerStatuses"][0]["state"]["terminated"]
        )
    )

    assert (ended["exitCode"], ended["reason"], ended["message"]) == (7, "Error", "seven")


@pytest.mark.usefixtures("node_agent")
def test_a_job_that_ends_well_is_complete(control_plane, namespace, kubectl):
    control_plane.apply(job("build", "sh", "-c", "exit 0"), namespace)

    kubectl("wait", "job/build", "-n", namespace, "--for=condition=Complete", "--timeout=300s")


@pytest.mark.usefixtures("node_agent")
def test_a_pod_failure_policy_fails_the_job_on_its_exit_code(control_plane, namespace, eventually):
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [65]}}
    policy = {"rules": [rule]}
    control_plane.apply(job("build", "sh", "-c", "exit 65", backoffLimit=6, podFailurePolicy=policy), namespace)

    def failed():
        conditions = control_plane.get("job", "build", namespace)["status"].get("conditions") or []
        return next((each for each in conditions if each["type"] == "Failed" and each["status"] == "True"), None)

    assert eventually(failed)["reason"] == "PodFailurePolicy"
    assert control_plane.get("job", "build", namespace)["status"]["failed"] == 1


def test_a_deployment_is_reached_through_its_service_and_ends_with_sigterm(
    control_plane, node_agent, namespace, kubectl, service_proxy, eventually
):
    control_plane.apply(web_deployment(2), namespace)
    control_plane.apply(WEB_SERVICE, namespace)
    kubectl("wait", "deployment/web", "-n", namespace, "--for=condition=Available", "--timeout=300s")

    with service_proxy(namespace, "web") as proxy:
        eventually(lambda: len(proxy.endpoints()) == 2)
        answers = {fetch(f"{proxy.url}/hello") for _ in range(4)}
        pods = {answer.removesuffix(" /hello") for answer in answers}
        assert len(pods) == 2, "each of the two pods answers in turn"

        kubectl("delete", "deployment/web", "-n", namespace)
        eventually(lambda: not kubectl("get", "pods", "-n", namespace, "--no-headers"))
        with pytest.raises(urllib.error.URLError, match="refused"):
            fetch(proxy.url)

    assert all("got SIGTERM" in node_agent.logs(namespace, name) for name in pods)


def test_a_process_that_ignores_sigterm_is_killed_when_its_grace_is_over(
    control_plane, node_agent, namespace, kubectl, eventually
):
    stubborn = pod("stubborn", "sh", "-c", "trap 'echo heard' TERM; echo up; while true; do sleep 0.1; done")
    stubborn["spec"]["terminationGracePeriodSeconds"] = 1000
    control_plane.apply(stubborn, namespace)
    eventually(lambda: "up" in node_agent.logs(namespace, "stubborn"))

    began = time.monotonic()
    kubectl("delete", "pod/stubborn", "-n", namespace, "--grace-period=1")

    assert 0.9 < time.monotonic() - began < 250, "the grace of this deletion, not the pod's own"
    assert "heard" in node_agent.logs(namespace, "stubborn")


@pytest.mark.usefixtures("node_agent")
def test_a_failing_container_is_restarted_and_keeps_its_last_state(control_plane, namespace, eventually):
    control_plane.apply(pod("crash", "sh", "-c", "exit 9", restart_policy="Always"), namespace)

    def crashed_twice():
        status = control_plane.get("pod", "crash", namespace)["status"]
        containers = status.get("containerStatuses") or [{"restartCount": 0}]
        return containers[0]["restartCount"] >= 2 and (status["phase"], containers[0])

    phase, found = eventually(crashed_twice)
    assert phase == "Running"
    assert found["lastState"]["terminated"]["exitCode"] == 9


@pytest.mark.usefixtures("node_agent")
def test_a_container_killed_by_sigkill_counts_as_out_of_memory(control_plane, namespace, eventually):
    # `$$` is how a manifest writes one dollar, so the shell gets `$$`, its own pid.
    control_plane.apply(pod("hungry", "sh", "-c", f"kill -{int(signal.SIGKILL)} $$$$"), namespace)

    ended = eventually(
        lambda: (
            (found := control_plane.get("pod", "hungry", namespace)["status"])["phase"] == "Failed"
            and found["containerStatuses"][0]["state"]["terminated"]
        )
    )

    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_volumes_and_variables_come_from_config_maps_and_secrets(control_plane, node_agent, namespace, eventually):
    settings = {"metadata": {"name": "settings"}, "data": {"greeting": "good day"}}
    keys = {"metadata": {"name": "keys"}, "stringData": {"password": "open sesame"}}
    control_plane.apply({"apiVersion": "v1", "kind": "ConfigMap", **settings}, namespace)
    control_plane.apply({"apiVersion": "v1", "kind": "Secret", **keys}, namespace)
    reader = pod(
        "reader",
        "sh",
        "-c",
        'cat /settings/greeting; echo " $PASSWORD $(NAME)"; echo kept > /scratch/file; cat "$SCRATCH/file"',
        env=[
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "SCRATCH", "value": "/scratch"},
        ],
        volumeMounts=[
            {"name": "settings", "mountPath": "/settings"},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    )
    reader["spec"]["volumes"] = [{"name": "settings", "configMap": {"name": "settings"}}]
    reader["spec"]["volumes"] += [{"name": "scratch", "emptyDir": {}}]
    control_plane.apply(reader, namespace)

    eventually(lambda: control_plane.get("pod", "reader", namespace)["status"]["phase"] == "Succeeded")

    assert node_agent.logs(namespace, "reader") == "good day open sesame reader\nkept\n"


def test_a_pod_that_violates_restricted_pod_security_is_refused(control_plane, namespace):
    privileged = pod("root", "id")
    privileged["spec"]["containers"][0]["securityContext"] = {"privileged": True}

    with pytest.raises(subprocess.CalledProcessError) as refused:
        control_plane.apply(privileged, namespace)

    assert 'violates PodSecurity "restricted:latest"' in refused.value.stderr


@pytest.mark.usefixtures("node_agent")
def test_a_pod_that_asks_for_a_gpu_lands_on_the_gpu_node(control_plane, namespace, eventually):
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    control_plane.apply(pod("needs-gpu", "true", resources=limits), namespace)

    eventually(lambda: control_plane.get("pod", "needs-gpu", namespace)["status"]["phase"] == "Succeeded")

    assert control_plane.get("pod", "needs-gpu", namespace)["spec"]["nodeName"] == "gpu-0"


def test_a_service_account_may_do_what_its_role_says_and_no_more(control_plane, namespace, kubectl):
    kubectl("create", "role", "reads", "-n", namespace, "--verb=list", "--resource=configmaps")
    kubectl("create", "rolebinding", "reads", "-n", namespace, "--role=reads", f"--serviceaccount={namespace}:default")

    as_account = f"--kubeconfig={control_plane.kubeconfig_for('default', namespace)}"

    assert "kube-root-ca.crt" in kubectl("get", "configmaps", "-n", namespace, as_account)
    with pytest.raises(subprocess.CalledProcessError, match="kubectl") as refused:
        kubectl("get", "secrets", "-n", namespace, as_account)
    assert "secrets is forbidden" in refused.value.stderr


def test_a_pod_acts_on_the_cluster_as_its_service_account(control_plane, node_agent, namespace, kubectl, eventually):
    control_plane.apply(
        pod("asks", "kubectl", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"), namespace
    )

    eventually(lambda: control_plane.get("pod", "asks", namespace)["status"]["phase"] == "Succeeded")

    assert kubectl("logs", "asks", "-n", namespace) == f"system:serviceaccount:{namespace}:default"
    assert node_agent.logs(namespace, "asks") == f"system:serviceaccount:{namespace}:default"


def test_the_object_store_keeps_what_is_put(object_store):
    bucket = object_store.create_bucket()
    client = object_store.client()
    client.put_object(Bucket=bucket, Key="plan", Body=b"bytes")

    assert client.get_object(Bucket=bucket, Key="plan")["Body"].read() == b"bytes"
    client.close()


def test_helm_is_the_pinned_version(helm):
    assert helm("version", "--template={{.Version}}") == "v3.19.0"
