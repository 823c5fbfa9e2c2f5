"""Model in, plan out: import, fuse, calibrate, time the kernels, plan the memory, prove it. Read build.py first."""
