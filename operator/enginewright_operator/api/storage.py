"""Where plans and models lie: the part of a manifest that says how to reach object storage."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from enginewright_operator.api.base import Strict, validations

# The keys of the Secret `credentialsSecret`, which are also the names of the variables that the pods get.
ACCESS_KEY_ID = "AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY = "AWS_SECRET_ACCESS_KEY"
SESSION_TOKEN = "AWS_SESSION_TOKEN"
CREDENTIAL_KEYS = (ACCESS_KEY_ID, SECRET_ACCESS_KEY)

# Where build and serving pods mount `caBundle`; the build request names this path.
CA_BUNDLE_PATH = "/etc/enginewright/ca/ca.crt"

Uri = Annotated[str, Field(min_length=1, max_length=1024)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]

URI_RULE = r"self.matches('^(s3://[^/]+/.|file:///.)')"


def uri_rules(field: str) -> dict[str, Any]:
    """The CEL rule of a URI, with a message that names its field."""
    return validations((URI_RULE, f"{field} must be s3://bucket/key or file:///path"))


class KeyReference(Strict):
    """One key of a ConfigMap or a Secret in the same namespace."""

    name: ObjectName = Field(description="The name of the ConfigMap or Secret.")
    key: str = Field(default="ca.crt", min_length=1, max_length=253, description="The key in it.")


class CaBundle(Strict):
    """PEM certificates of the authorities that signed the endpoint's certificate."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "has(self.configMap) != has(self.secret)",
                "storage.caBundle names either a configMap or a secret: give exactly one of the two",
            )
        )
    )

    config_map: KeyReference | None = Field(default=None, description="The ConfigMap that holds the certificates.")
    secret: KeyReference | None = Field(default=None, description="The Secret that holds the certificates.")


class Storage(Strict):
    """An object store: Amazon S3 or anything that speaks its protocol."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            (
                "!has(self.endpoint) || (isURL(self.endpoint) && "
                "url(self.endpoint).getScheme() in ['http', 'https'] && url(self.endpoint).getHost() != '')",
                "storage.endpoint must be a URL with http or https, as in https://minio.example.com:9000",
            ),
        )
    )

    uri: Uri = Field(
        description="Where plans are kept: s3://bucket/prefix (or file:///folder on a single machine). Each plan lies "
        "under plans/<namespace>/<digest>/ in it.",
        json_schema_extra=validations(
            (
                r"self.matches('^(s3://[^/]+(/.*)?|file:///.*)$')",
                "storage.uri must be s3://bucket or s3://bucket/prefix (or file:///folder)",
            )
        ),
    )
    endpoint: str | None = Field(
        default=None,
        max_length=512,
        description="URL of a store other than Amazon's, as in https://minio.example.com:9000.",
    )
    region: str | None = Field(
        default=None, max_length=64, description="The bucket's region, where the store asks for one."
    )
    path_style: bool = Field(
        default=False,
        description="Put the bucket into the path, not into the host name; most stores other than Amazon's want this.",
    )
    credentials_secret: ObjectName | None = Field(
        default=None,
        description="Name of a Secret in this namespace with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and "
        "AWS_SESSION_TOKEN where there is one). Without it the pods use the identity of their service account.",
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description="The service account of build and serving pods: for stores that know pods by their identity.",
    )
    ca_bundle: CaBundle | None = Field(
        default=None, description="Certificates to trust, where the endpoint's are not signed by a public authority."
    )
