"""One reconciliation a kind: level-triggered and idempotent, so that it may be killed anywhere and begun again."""
