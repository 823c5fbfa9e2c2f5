"""Model in, plan out: import, fuse, calibrate, time the kernels, plan the memory, prove it. Read build.py first."""

from enginewright_builder import unloaded

unloaded.put_off()  # here, since every module of the builder may be the first that imports onnx-ir
