"""The network: our graph between the importers and the plan, an onnx-ir model with our fused layers in their own domain."""
