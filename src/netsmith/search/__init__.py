"""Ask/tell searchers, one file each."""
