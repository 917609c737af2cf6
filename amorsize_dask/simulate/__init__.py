"""The core on a simulated machine: virtual cores, virtual workers, a virtual clock."""
