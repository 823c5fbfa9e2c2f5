"""A plan loaded on this machine: `Engine("x.plan").infer(array)`.

`Engine` is the public face; it is imported from `enginewright_runtime.engine.engine`, and nothing is imported here so
that describing a machine or reading a dtype's name does not load ONNX Runtime.
"""
