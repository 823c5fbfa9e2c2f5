"""The bottom of the house: plans, the engine that runs them, the server, and object storage.

Nothing here may import the builder or the operator, nor onnx, kopf or kubernetes: this package is what a serving
pod carries.
"""

__version__ = "0.1.0"
