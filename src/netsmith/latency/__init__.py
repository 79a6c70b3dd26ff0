"""Latency tables and predictors of devices."""
