"""The families of algorithms, one folder each."""
