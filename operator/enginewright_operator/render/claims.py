"""The ResourceClaimTemplate by which pods of a plan claim their GPU, where their class asks for that.

A template never changes once it is made, so its name tells what is in it. Which device fits is written in CEL over the
attributes that NVIDIA's driver publishes; what is refused there is what gpu.py refuses of a node's devices.
"""

import json
from hashlib import sha256

from enginewright_operator import gpu
from enginewright_operator.api import GPUClass, GPUClassSpec, parse_quantity
from enginewright_operator.render import names
from enginewright_operator.render.pods import GPU_CLAIM, Json
from enginewright_operator.slices import DRIVER, PART, WHOLE


def template(gpu_class: GPUClass, digest: str, driver: str, *, building: bool) -> Json | None:
    """The template of a plan's build, or of its serving pods; None for a class whose pods claim nothing.

    The class is narrowed to the plan's product; `driver` is the branch that the plan is or was built with.
    """
    if not gpu_class.spec.claims:
        return None
    expression = selector(gpu_class.spec, driver, building=building)
    exactly = {
        "deviceClassName": gpu_class.spec.device_class,
        "selectors": [{"cel": {"expression": expression}}],
        "allocationMode": "ExactCount",
        "count": 1,
    }
    spec = {"devices": {"requests": [{"name": GPU_CLAIM, "exactly": exactly}]}}
    mark = sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:6]
    name = f"plan-{digest[:16]}-{mark}"
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name, "labels": {names.MANAGED_BY_LABEL: names.MANAGER}},
        "spec": {"metadata": {"labels": {names.MANAGED_BY_LABEL: names.MANAGER}}, "spec": spec},
    }


def template_name(gpu_class: GPUClass, digest: str, driver: str, *, building: bool) -> str:
    """The name of the template; empty for a class whose pods claim nothing."""
    made = template(gpu_class, digest, driver, building=building)
    return made["metadata"]["name"] if made else ""


def selector(spec: GPUClassSpec, driver: str, *, building: bool) -> str:
    """Which device fits, in CEL. The type comes first: other devices lack what is asked after it."""
    attributes, capacity = f"device.attributes['{DRIVER}']", f"device.capacity['{DRIVER}']"
    kind = PART if spec.mig_profile else WHOLE
    terms = [f"device.driver == '{DRIVER}'", f"{attributes}.type == '{kind}'"]
    if spec.mig_profile:
        terms.append(f"{attributes}.profile == '{spec.mig_profile}'")
    if labels := gpu.product_labels(spec):
        terms.append(f"{attributes}.productName.replace(' ', '-') in {json.dumps(labels)}")
    if spec.compute_capability:
        terms.append(f"{attributes}.cudaComputeCapability.compareTo(semver('{spec.compute_capability}.0')) == 0")
    if spec.memory:
        terms.append(f"{capacity}.memory.compareTo(quantity('{parse_quantity(spec.memory)}')) >= 0")
    if driver:
        terms.append(f"{attributes}.driverVersion.major() {'==' if building else '>='} {driver}")
    return " && ".join(terms)
