"""Measuring on another machine: the server that stands there, and the device that speaks to it."""
