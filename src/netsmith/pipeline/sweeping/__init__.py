"""The across-stack sweep: its grid, its run, and what follows from its figures."""
