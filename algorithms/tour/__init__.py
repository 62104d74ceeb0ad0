"""The command ``numcore tour``: every family on real data, on one page; a module a stop."""
