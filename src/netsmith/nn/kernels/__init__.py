"""Compiled kernels for training on a CPU: channels innermost, explicit vectors, PyTorch's own threads."""
