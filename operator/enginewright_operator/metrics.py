"""What Prometheus is told about the operator itself."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("enginewright_operator_reconciles", "Reconciliations, by kind and result.", ["kind", "result"])
SECONDS = Histogram("enginewright_operator_reconcile_seconds", "How long one reconciliation takes.", ["kind"])
DEPTH = Gauge("enginewright_operator_queue_depth", "Keys that wait for a worker.")
LEADING = Gauge("enginewright_operator_leading", "1 while this process is the leader.")
