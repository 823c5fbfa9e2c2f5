"""Each of Caffe's layers in ONNX's operators."""
