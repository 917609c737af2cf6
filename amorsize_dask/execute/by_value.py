"""Functions and classes sent as what they are, by cloudpickle, and not by their names.

Apart from `wire`, since importing cloudpickle takes a third of what a worker process
boots in, and functions of modules need no more than their names.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

import cloudpickle

from amorsize_dask.execute.wire import SPAWNED_MAIN
from amorsize_dask.measure.mapped_array import find_reducers


def find_pickler(*, shares_files: bool) -> type[cloudpickle.Pickler]:
    """Return the pickler to use now.

    Parameters
    ----------
    shares_files : bool
        Whether arrays that map a file are sent as its name.
    """
    _register_spawned_main()
    return _SharingPickler if shares_files else _Pickler


def _register_spawned_main() -> None:
    # Else cloudpickle, too, would name a module that workers haven't got. In other
    # processes the name stands for ``__main__`` itself.
    main = sys.modules.get(SPAWNED_MAIN)
    if main is not None and main.__name__ == SPAWNED_MAIN:
        cloudpickle.register_pickle_by_value(main)


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return _rebuild_code, (make, arguments, code.co_filename)


def _rebuild_code(make: Any, arguments: Any, filename: str) -> CodeType:
    code: CodeType = make(*arguments)
    return code.replace(co_filename=filename)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # it has no type hints
    """Keeps the name of the file that code is from, for tracebacks and warnings."""

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
        {CodeType: _reduce_code}
    )


class _SharingPickler(_Pickler):
    """Sends arrays that map a file as its name."""

    @property
    def dispatch_table(self) -> Any:
        """What is looked up when a pickler is made."""
        return _Pickler.dispatch_table.new_child(find_reducers())
