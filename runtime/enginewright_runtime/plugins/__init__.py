"""Layers of one's own: a NumPy reference, the rule of its outputs, its attributes, and perhaps kernels.

    from enginewright_runtime.plugins import TensorSpec, plugin

    @plugin("com.example.Swish", attributes={"beta": 1.0})
    def swish(x, beta):
        return x / (1 + numpy.exp(-beta * x))

A plugin's file is one module that imports NumPy and this package alone: it travels inside the plan.
"""

from enginewright_runtime.plugins.definition import Cuda, Plugin, PluginError, TensorSpec, Triton, plugin

__all__ = ["Cuda", "Plugin", "PluginError", "TensorSpec", "Triton", "plugin"]
