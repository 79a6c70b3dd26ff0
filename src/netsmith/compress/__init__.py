"""Smaller networks: fewer bits a weight and an activation, chosen for the hardware that runs them."""
