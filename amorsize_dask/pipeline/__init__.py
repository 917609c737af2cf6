"""Pipelines: stages that run at the same time, each in the lane that fits it."""
