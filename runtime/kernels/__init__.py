"""Compiled kernels, the operators that call them, and the interfaces of torch that they use."""
