"""The search of a design: what it can reach, who asks, who judges, and who shares the work."""
