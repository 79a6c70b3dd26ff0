"""Blocks, building a module from a plan, counting."""
