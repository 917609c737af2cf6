"""Decides what runs where: cost model, placement, batches, scheduling state.

Plain code on the standard library alone. It knows tasks as numbers, values as
byte counts and time as the seconds that it is told: no clock, no process, no
Dask. That is why the real lanes and a simulated machine can both be driven by it.
"""
