"""Designs that grow paths in a trained network: what is begun with, what it can become, and the search."""
