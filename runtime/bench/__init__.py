"""Benchmarks of time and memory of training steps."""
