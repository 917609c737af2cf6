"""The cluster itself. The one module that imports distributed when it is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

import dask
from distributed import Client, LocalCluster

from amorsize_dask.cluster.arguments import ClusterArguments

#: What distributed sets in the environment of this process when it starts a worker,
#: besides its setting `nanny.pre-spawn-environ`.
_SET_BESIDES = ("PYTHONHASHSEED", "__DASK_PARENT_PID", "DASK_PARENT")


class MeasuredCluster(LocalCluster):
    """A `distributed.LocalCluster` that has been started for some work.

    Closing it closes its client as well, and puts the environment back that
    distributed has set in this process for its workers.

    Attributes
    ----------
    arguments : ClusterArguments
        What it was started with, and why.
    client : distributed.Client or None
        The client that was asked for.
    """

    client: Any = None

    def __init__(
        self,
        arguments: ClusterArguments,
        more: Mapping[str, Any],
        *,
        with_client: bool,
    ) -> None:
        self.arguments = arguments
        names = dask.config.get("distributed.nanny.pre-spawn-environ", {})
        self._environ = {name: os.environ.get(name) for name in (*names, *_SET_BESIDES)}
        super().__init__(**{**arguments, **more})  # type: ignore[no-untyped-call]
        if with_client:
            try:
                self.client = Client(self)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def close(self, timeout: float | None = None) -> Any:
        """Close the client, the workers and the scheduler."""
        client, self.client = self.client, None
        if client is not None:
            client.close()
        closing = super().close(timeout)
        for name, value in self._environ.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        return closing
