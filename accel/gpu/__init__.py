"""CuPy twins, one module a family or core module."""
