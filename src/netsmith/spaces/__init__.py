"""Sets of architectures, one file a space."""
