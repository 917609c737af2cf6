"""Looks at the machine (cores, memory, costs) and at tasks while they run."""
