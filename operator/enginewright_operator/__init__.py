"""From manifest to served engine on Kubernetes: builds on the right node, gates, rolls out, collects."""
