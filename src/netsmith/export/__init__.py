"""Writing modules in the formats of runtimes, and proving that what was written equals them."""
