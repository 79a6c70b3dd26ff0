"""Published tables of whole spaces: every figure is known, so that searchers are judged in seconds."""
