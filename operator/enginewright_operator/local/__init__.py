"""A manifest on this machine, without a cluster: the very Job and Deployment that render/ makes, as local processes.

What a cluster does for them is done here in small: volumes become folders, references to Secrets and to the pod's own
address become values, probes are asked, SIGTERM ends. It must never render anything itself.
"""
