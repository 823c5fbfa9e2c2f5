"""The network: our graph between importers and plan, an onnx-ir model with our fused layers in their own domain."""
