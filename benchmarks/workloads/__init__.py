"""The workloads, a file for each family. `catalogue.py` has them in order.

Functions of tasks are imported by workers, so nothing here imports Dask before a
collection is made, and a family imports no other.
"""
