"""The main job's part of the suite: parsing, a few short tasks, waiting.

Run it on an idle machine: `python benchmarks/main_job.py`. It prints the ratios to
Dask's schedulers that need nothing started before, and ends with 1 if a limit isn't
reached. It takes the suite's options.
"""

from __future__ import annotations

import sys

from measured import NOTHING_STARTED
from suite import main

if __name__ == "__main__":
    part = ["--only", "parse", "ten_tasks", "waits", "--check"]
    part += ["--runners", *NOTHING_STARTED, "cold", "warm"]
    sys.exit(main([*part, *sys.argv[1:]]))
