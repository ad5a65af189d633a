"""Kernels run for real: executors, timer, microbenchmarks. A measurement knows nothing of predictions."""
