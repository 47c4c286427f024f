"""Kernels for CUDA: ``x.cu`` knows no torch, ``x_binding.cpp`` knows no CUDA header."""
