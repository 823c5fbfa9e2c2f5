"""Caffe: what a prototxt and a caffemodel say, and what each of Caffe's layers is in ONNX's operators."""
