"""What ONNX's operators compute, in the expression language. OPERATORS in table.py is the list."""
