"""The three kinds of enginewright.dev/v1alpha1 as pydantic models: the one source of the CRDs in crds/.

A field is here only if this version honours it; its description is what `kubectl explain` prints.
"""

from enginewright_operator.api.base import API_VERSION, GROUP, UNSEEN, VERSION, Condition, ObjectMeta, OwnerReference
from enginewright_operator.api.build import RebuildOn
from enginewright_operator.api.engine import (
    InferenceEngine,
    InferenceEngineSpec,
    InferenceEngineStatus,
    ModelStatus,
    Target,
    TargetStatus,
)
from enginewright_operator.api.gates import Gates
from enginewright_operator.api.gpu_class import DEFAULT_RESOURCE, GPUClass, GPUClassSpec, ResourceKind, Toleration
from enginewright_operator.api.plan import (
    FINALIZER,
    BuildProgress,
    EnginePlan,
    EnginePlanSpec,
    EnginePlanStatus,
    GateVerdict,
    Measurements,
    Phase,
)
from enginewright_operator.api.quantities import parse_duration, parse_quantity
from enginewright_operator.api.reading import first_fault, read
from enginewright_operator.api.resources import Resources
from enginewright_operator.api.rollout import (
    Analysis,
    Canary,
    CanaryStatus,
    Counts,
    Rejection,
    Rollout,
    Strategy,
    Window,
)
from enginewright_operator.api.serving import Autoscaling, ParentRef, Route, Serving
from enginewright_operator.api.storage import CA_BUNDLE_PATH, CREDENTIAL_KEYS, SESSION_TOKEN, CaBundle, Storage

__all__ = [
    "API_VERSION",
    "CA_BUNDLE_PATH",
    "CREDENTIAL_KEYS",
    "DEFAULT_RESOURCE",
    "FINALIZER",
    "GROUP",
    "SESSION_TOKEN",
    "UNSEEN",
    "VERSION",
    "Analysis",
    "Autoscaling",
    "BuildProgress",
    "CaBundle",
    "Canary",
    "CanaryStatus",
    "Condition",
    "Counts",
    "EnginePlan",
    "EnginePlanSpec",
    "EnginePlanStatus",
    "GPUClass",
    "GPUClassSpec",
    "GateVerdict",
    "Gates",
    "InferenceEngine",
    "InferenceEngineSpec",
    "InferenceEngineStatus",
    "Measurements",
    "ModelStatus",
    "ObjectMeta",
    "OwnerReference",
    "ParentRef",
    "Phase",
    "RebuildOn",
    "Rejection",
    "ResourceKind",
    "Resources",
    "Rollout",
    "Route",
    "Serving",
    "Storage",
    "Strategy",
    "Target",
    "TargetStatus",
    "Toleration",
    "Window",
    "first_fault",
    "parse_duration",
    "parse_quantity",
    "read",
]
