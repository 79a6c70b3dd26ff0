"""Exporting modules to files that runtimes read."""
