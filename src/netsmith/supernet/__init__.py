"""Shared weights of many archs, and searching through them."""
