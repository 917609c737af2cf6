"""Choosing lanes, workers and partitions before there is a graph: `optimize`."""
