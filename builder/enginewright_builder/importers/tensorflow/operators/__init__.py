"""How each of TensorFlow's operations is written in ONNX: one file a family, one table for all."""
