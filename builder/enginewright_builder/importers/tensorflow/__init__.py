"""Frozen TensorFlow graphs: the file's own form, its constants, and how each of its operations is written in ONNX."""
