"""The server's settings: from flags, else from ENGINEWRIGHT_* variables, else these defaults."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from enginewright_runtime.errors import UsageError
from enginewright_runtime.plan.request import StoreOptions

PREFIX = "ENGINEWRIGHT_"


def _own_cache() -> Path:
    """A folder of this user's own: in one that all may write, another user could plant a plan."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a container's user may have no home
        home = Path(tempfile.gettempdir()) / f"enginewright-{os.getuid()}"
    return home / "enginewright" / "plans"


class Settings(BaseSettings):
    """What decides how plans are served. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on; in a pod its own, or 0.0.0.0.")
    http_port: Annotated[int, Field(ge=0, le=65535, description="0 picks a free one.")] = 8000
    cache: Path = Field(default_factory=_own_cache, description="Folder for plans fetched from storage.")
    threads: Annotated[int, Field(ge=0, description="Processors one inference may use; 0 means all there are.")] = 0
    concurrency: Annotated[int, Field(ge=0, description="Inferences at once; 0 means one a processor.")] = 0
    waiting: Annotated[int, Field(ge=0, description="Requests that may wait; more get 503.")] = 256
    max_body: ByteSize = Field(ByteSize(64 << 20), description="Largest request body in bytes, or as 64MiB.")
    drain_delay: Annotated[float, Field(ge=0, description="How long to go on accepting after SIGTERM.")] = 5.0
    drain_timeout: Annotated[float, Field(ge=0, description="How long requests in flight may take then.")] = 25.0
    access_log: Annotated[float, Field(ge=0, le=1, description="Share of the requests that are logged.")] = 0.0
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    signature_policy: Annotated[str, Field(pattern="^(require|warn|off)$")] = "off"
    trusted_keys: Path | None = Field(None, description="File or folder of public keys in PEM.")
    allow_plugins: bool = Field(False, description="Whether plans may bring Python of their own.")
    storage_endpoint: str = Field("", description="URL of an S3 store other than Amazon's.")
    storage_region: str = ""
    storage_path_style: bool = False
    storage_ca_bundle: str = Field("", description="PEM file of certificates to trust for storage.")

    @property
    def storage(self) -> StoreOptions:
        """How to reach the store that plans come from; its credentials are in the environment, as boto3 reads them."""
        return StoreOptions(
            endpoint=self.storage_endpoint,
            region=self.storage_region,
            path_style=self.storage_path_style,
            ca_bundle=self.storage_ca_bundle,
        )


def read(**flags: Any) -> Settings:
    """Settings with every flag that is not None over the environment. Raises UsageError naming what does not fit."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        raise UsageError(
            f"The setting {name} (--{name.replace('_', '-')} or {PREFIX}{name.upper()}) does not fit: "
            f"{first['msg']}, got {first['input']!r}."
        ) from error
