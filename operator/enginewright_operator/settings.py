"""What whoever installs the operator decides: read once, from ENGINEWRIGHT_OPERATOR_* variables, else these defaults.

The chart's values become these variables. Lists and objects are JSON. Nothing else of this package reads the
environment, so that a test makes any operator by making its Settings.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

import enginewright_runtime
from enginewright_operator.api import GPUClassSpec, Storage
from enginewright_runtime.errors import UsageError

PREFIX = "ENGINEWRIGHT_OPERATOR_"
Port = Annotated[int, Field(ge=0, le=65535)]
_VERSION = enginewright_runtime.__version__


class Settings(BaseSettings):
    """The operator's settings. Durations are seconds, amounts as Kubernetes writes them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    builder_image: str = Field(default=f"enginewright/builder:{_VERSION}", description="The image of build Jobs.")
    runtime_image: str = Field(default=f"enginewright/runtime:{_VERSION}", description="The image of serving pods.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"

    default_storage: Storage | None = Field(default=None, description="For engines that name no storage of their own.")
    allow_file_uris: bool = Field(
        default=False,
        description="Let pods use file:// URIs: right where they are processes of one machine, wrong elsewhere.",
    )

    allow_plugins: bool = Field(
        default=False, description="Let engines bring Python of their own, which runs in their build and serving pods."
    )

    signature_policy: Literal["require", "warn", "off"] = Field(
        default="off", description="What serving pods do with a plan that no trusted key signed."
    )
    signing_secret: str = Field(
        default="", description="The Secret, in each engine's namespace, whose signing.key build pods sign with."
    )
    trusted_keys: str = Field(
        default="",
        validate_default=True,
        description="The ConfigMap, in each engine's namespace, whose public keys serving pods trust.",
    )

    tracing_endpoint: str = Field(
        default="",
        description="Where operator, build and serving pods send traces (OTLP over HTTP), as http://otel:4318.",
    )

    operator_namespace: str = Field(default="enginewright-system", description="Where the operator and its lease are.")
    watch_namespaces: tuple[str, ...] = Field(
        default=(), description="Whose engines are served; empty: the whole cluster's."
    )
    gpu_classes: dict[str, GPUClassSpec] | None = Field(
        default=None,
        description="The GPU classes by name, for an operator that has Roles alone: it then reads no cluster-scoped "
        "object, neither GPUClasses nor nodes.",
    )
    resync_seconds: Annotated[float, Field(gt=0)] = 300.0
    lease_name: str = "enginewright-operator"
    lease_seconds: Annotated[float, Field(ge=2)] = 10.0
    host: str = ""  # the address to answer on; empty: every one
    metrics_port: Port = 9090
    health_port: Port = 8080

    build_cpu: str = Field(default="1", description="Processors that a build pod reserves: it times kernels.")
    build_memory: str = Field(default="1Gi", description="Memory that a build pod reserves.")
    build_scratch: str = Field(default="20Gi", description="The most that a build pod may write.")
    builds_at_once: Annotated[int, Field(ge=1)] = Field(
        default=8,
        description="How many builds may run at a time in one namespace on one GPU class: an upgrade wants many.",
    )
    collect_after: Annotated[float, Field(ge=0)] = Field(
        default=600.0, description="Seconds for which a plan stays, once it is built, that no engine keeps any more."
    )
    build_retries: Annotated[int, Field(ge=0, le=20)] = 3

    serving_port: Port = 8000
    serving_cache: str = Field(
        default="20Gi", description="The most that a serving pod may write: the plans that it fetched."
    )
    drain_delay: Annotated[float, Field(ge=0)] = 5.0
    drain_timeout: Annotated[float, Field(ge=0)] = 25.0
    scrape_proxy: str = Field(
        default="",
        description="An HTTP proxy through which the pods' metrics are read where the operator cannot reach them.",
    )
    progress_deadline: Annotated[int, Field(ge=10)] = 600

    @field_validator("trusted_keys")
    @classmethod
    def _keys_for_the_policy(cls, keys: str, info: ValidationInfo) -> str:
        policy = info.data.get("signature_policy", "off")
        if policy != "off" and not keys:
            raise ValueError(f"the signature policy {policy} needs a ConfigMap of public keys")
        return keys

    @property
    def cluster_wide(self) -> bool:
        """Whether every namespace's engines are served."""
        return not self.watch_namespaces


def read(**overrides: Any) -> Settings:
    """Settings with `overrides` over the environment. Raises UsageError naming the variable that does not fit."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        where = ".".join(str(part) for part in first["loc"][1:])
        raise UsageError(
            f"The variable {PREFIX}{name.upper()} does not fit{f' at {where}' if where else ''}: {first['msg']}, got "
            f"{str(first['input'])[:80]!r}; correct it in the operator's Deployment."
        ) from error
    except SettingsError as error:
        raise UsageError(f"The operator's settings cannot be read: {error}; lists and objects must be JSON.") from error
