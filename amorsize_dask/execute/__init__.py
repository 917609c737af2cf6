"""Does what the core decides: lanes, workers, messages, values, and the one loop."""
