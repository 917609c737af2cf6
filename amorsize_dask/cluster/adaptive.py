"""Scaling a Dask cluster by what its stages have been measured to take."""

from __future__ import annotations

from typing import Any

from distributed import Adaptive
from distributed.protocol.pickle import dumps

from amorsize_dask.cluster.advice import START_S, advise, read_record
from amorsize_dask.cluster.makespans import MOST_WORKERS
from amorsize_dask.cluster.record import ClusterRecord


class MeasuredAdaptive(Adaptive):
    """Asks for the workers that pay: ``cluster.adapt(Adaptive=MeasuredAdaptive)``.

    Of the scheduler's `ClusterRecorder` it knows what each stage takes, where Dask's
    own goes by the seconds of all tasks that have been given out. It takes no more
    workers than it takes to finish within ``target_duration``, and none that would
    come too late or would find nothing to do. As long as nothing is known, and where
    workers may go, it does as Dask's own.

    Parameters
    ----------
    *args, **kwargs
        As `distributed.deploy.Adaptive`: ``minimum``, ``maximum``,
        ``target_duration``, ``interval``, ``wait_count``.
    start_s : float, optional
        Seconds until a worker comes that is asked for, > 0.
    """

    def __init__(self, *args: Any, start_s: float = START_S, **kwargs: Any) -> None:
        self._start_s = start_s
        super().__init__(*args, **kwargs)

    async def target(self) -> int:
        """Return how many workers there should be."""
        usual = int(await super().target())  # type: ignore[no-untyped-call]
        record = await self._read()
        if record is None or not record.list_rest():
            return usual
        advice = advise(
            record,
            maximum=int(min(self.maximum, MOST_WORKERS)) or 1,
            target_s=self.target_duration or None,
            start_s=self._start_s,
        )
        if advice.n_workers >= record.n_workers:
            return int(advice.n_workers)
        # Which of them can go depends on the results that they hold.
        return min(record.n_workers, max(advice.n_workers, usual))

    async def _read(self) -> ClusterRecord | None:
        response = await self.scheduler.run_function(function=dumps(read_record))
        if response["status"] != "OK":
            return None
        record: ClusterRecord | None = response["result"]
        return record
