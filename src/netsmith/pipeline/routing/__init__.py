"""Designs whose network picks a path for each image."""
