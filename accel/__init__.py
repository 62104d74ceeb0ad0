"""Faster twins of the hot loops, found by name and imported on first use."""
