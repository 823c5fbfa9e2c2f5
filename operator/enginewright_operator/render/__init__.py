"""Specs to the manifests of a build Job, a serving Deployment and its Service, as plain dicts. Pure.

The same arguments give the same dict in every process, so that server-side apply of it changes nothing twice, and
`enginewright up` runs what the operator would have applied. Nothing here reads a cluster, a clock or the environment.
"""

from enginewright_operator.render import build_job, serving, surroundings

__all__ = ["build_job", "serving", "surroundings"]
