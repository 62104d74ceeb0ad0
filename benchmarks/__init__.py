"""asv suites, one a family, and side-by-side timings against other libraries."""
