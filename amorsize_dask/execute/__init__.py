"""Does what the core decides: lanes, workers, messages, values, and the one loop.

It is also what users find as ``amorsize_dask.execute``: the function of that name, from
`amorsize_dask.planning.execute`. Importing a folder makes it an attribute of its
package, so for the name to be both, this module can be called.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    @property
    def __wrapped__(self) -> Any:
        # What `inspect.signature` and documentation tools look at. Nothing in this
        # folder needs it, so it is found by its name.
        return import_module("amorsize_dask.planning.execute").execute

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
