"""What a sample has shown of a function, its data and this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from amorsize_dask.core.experience import Sampled
from amorsize_dask.core.statistics import FIRST_SPREAD


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticProfile:
    """All that was measured and predicted on the way to a plan.

    Plain numbers and text, so that it can be kept as JSON: see `as_dict`. Seconds and
    bytes are means of the sampled items, unless something else is said.
    """

    #: Seconds of a call, the first one left out if it was slow for having been first.
    avg_execution_time: float
    #: Seconds to pickle an item and its result; 0 where that wasn't measured.
    avg_pickle_time: float
    #: Seconds to start one process of a `multiprocessing.Pool`.
    spawn_cost: float
    #: Times as fast as a loop, as `Plan.speedup`.
    estimated_speedup: float

    #: Items that were tried, and those of them that raised.
    n_sampled: int = 0
    n_failed: int = 0
    #: Items of the data; ``None`` if it has no known length.
    n_items: int | None = None
    #: Items that the predictions are for: `n_items`, or what unknown data was taken as.
    n_items_assumed: int = 0
    #: Seconds by which the first call took longer than the others: imports, caches.
    first_call_s: float = 0.0
    #: Standard deviation of the seconds over their mean; ``None``: one item was seen.
    coefficient_of_variation: float | None = None
    #: Share of its time in which a call computes rather than waits, 0 to 1.
    cpu_fraction: float = 1.0
    #: Share of its time in which it holds the GIL, 0 to 1; ``None``: too short to tell.
    gil_fraction: float | None = None
    #: Pickled bytes of an item, of its result, and of the function.
    in_bytes: float = 0.0
    out_bytes: float = 0.0
    function_bytes: int = 0
    #: Bytes of memory that a call took at most beside its result, and gave back.
    peak_bytes: float = 0.0
    #: Cores that one call keeps busy by threads inside of it, such as those of BLAS; 1
    #: if it has none.
    n_inner_cores: float = 1.0
    #: What calls have changed that others see; ``None`` if nothing was seen.
    shared_state: str | None = None
    #: Why function, items or results can't be pickled as a pool does it, and why not in
    #: any way, so that our own workers can't be sent them either. ``None``: they can.
    unpicklable: str | None = None
    unsendable: str | None = None
    #: Seconds that sampling took, and those of them that are work which is done: the
    #: calls of which `Plan.compute` has the results. The rest is what asking costs.
    sampling_s: float = 0.0
    kept_s: float = 0.0
    #: Seconds that a loop over all of the data is predicted to take.
    serial_s: float = 0.0
    #: For each lane of our own the seconds it is predicted to take with the number of
    #: workers that suits it best.
    lane_s: Mapping[str, float] = field(default_factory=dict)
    #: Cores that may be used, and physical ones among them.
    n_cores: int = 1
    n_physical_cores: int = 1
    #: Bytes of memory that may be used.
    memory_bytes: int = 0
    #: How a `multiprocessing.Pool` starts its processes here.
    start_method: str = ""

    def to_experience(self, n_items: int) -> Sampled:
        """Return what a scheduler should know of the function before it runs it."""
        variation = self.coefficient_of_variation
        spread = FIRST_SPREAD if variation is None else variation
        return Sampled(
            n_items=max(1, n_items),
            mean_s=self.avg_execution_time,
            std_s=spread * self.avg_execution_time,
            cpu_fraction=self.cpu_fraction,
            gil_fraction=self.gil_fraction,
            in_bytes=self.in_bytes,
            out_bytes=self.out_bytes,
            peak_bytes=self.peak_bytes,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return asdict(self)
