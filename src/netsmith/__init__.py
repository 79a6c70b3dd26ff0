"""Netsmith designs convolutional networks for a device."""
