"""Plans over the network: Open Inference Protocol v2 on HTTP, with metrics, logs and a drain that drops nothing.

The data plane knows no protocol; a protocol is a pure codec and a thin translator. They meet in `app`.
"""
