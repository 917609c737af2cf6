"""Ways of calling a function with many items, run against each other.

What the guide of amorsize calls `compare_strategies` and `validate_optimization`.
"""
