"""Serving: continuous batching in steady state, its traffic and lengths, and what an engine adds to the kernels."""
