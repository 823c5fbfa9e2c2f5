"""Runs device segments on an NVIDIA GPU: a program of launches, captured once into a CUDA graph and then replayed."""
