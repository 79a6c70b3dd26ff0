"""Smaller networks: fewer channels, fewer bits, chosen for the device that runs them."""
