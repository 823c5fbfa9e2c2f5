"""A serving pod's metrics, as Prometheus reads them, to the counters that an analysis needs."""

from prometheus_client.parser import text_string_to_metric_families

from enginewright_operator import api

REQUESTS, DURATION = "enginewright_requests", "enginewright_request_duration_seconds"
FIRST_ERROR = 400


def counts(text: str, *, model: str) -> api.Counts:
    """The counters of one model. Raises ValueError where the text is no exposition."""
    requests = errors = 0
    buckets: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("model") != model:
                continue
            if sample.name == f"{REQUESTS}_total":
                requests += int(sample.value)
                errors += int(sample.value) if int(sample.labels["code"]) >= FIRST_ERROR else 0
            elif sample.name == f"{DURATION}_bucket":
                buckets[sample.labels["le"]] = int(sample.value)
    return api.Counts(requests=requests, errors=errors, buckets=buckets)


def total(parts: list[api.Counts]) -> api.Counts:
    """The sum over pods."""
    bounds = sorted({bound for part in parts for bound in part.buckets}, key=float)
    return api.Counts(
        requests=sum(part.requests for part in parts),
        errors=sum(part.errors for part in parts),
        buckets={bound: sum(part.buckets.get(bound, 0) for part in parts) for bound in bounds},
    )
