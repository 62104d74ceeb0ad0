"""Numba twins, one module a family or core module."""
