"""Doing something as soon as a module is imported, without importing it.

Importing Dask takes longer than all else that a worker process needs to be up, and few
tasks need it there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # half of what importing this package would take
    from importlib.abc import Loader


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Call something now if a module has been imported, else right after its import.

    Parameters
    ----------
    name : str
        The module, with the packages that it is in.
    action : callable
        What it raises comes out of the import statement. Of several for the same
        module the first comes first.
    """
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder:
    """Finds one module as the finders after it do."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the module's spec, with a loader that acts."""
        if fullname != self._name:
            return None
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        for other in others:
            spec = other.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Loader", _Loader(spec.loader, self))
                return spec
        return None

    def act(self) -> None:
        """Do what is to be done, once."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            self._action()


class _Loader:
    """Loads a module as another loader does, and then acts."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, and act."""
        # Its files and its source are asked of its own loader.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.act()
