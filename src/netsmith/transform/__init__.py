"""Function-preserving path-level transformations: networks that grow and keep what they learned."""
