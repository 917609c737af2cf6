"""Whether a function seeds the random numbers of its process."""

from __future__ import annotations

import functools
import random
import types
from functools import partial
from random import seed as seed_python
from typing import Any
from xmlrpc.client import ServerProxy

import numpy as np
import pytest
from numpy.random import seed as seed_numpy

from amorsize_dask.measure.global_random import seeds_globally


def with_numpy(x: int) -> float:
    np.random.seed(x)
    return float(np.random.normal())


def with_python(x: int) -> float:
    random.seed(x)
    return random.random()


def with_name(x: int) -> float:
    seed_python(x)
    return random.random()


def with_name_of_numpy(x: int) -> float:
    seed_numpy(x)
    return float(np.random.normal())


def with_torch(x: int) -> Any:
    torch.manual_seed(x)  # noqa: F821
    return torch.rand(1)  # noqa: F821


def with_state(x: Any) -> float:
    random.setstate(x)
    return random.random()


def in_a_comprehension(x: int) -> list[Any]:
    return [np.random.seed(i) for i in range(x)]


def through_another(x: int) -> float:
    return 2 * with_numpy(x)


def through_a_closure() -> Any:
    inner = partial(with_numpy)
    return lambda x: inner(x)


@functools.cache
def cached(x: int) -> float:
    return with_python(x)


class Simulation:
    def run(self, x: int) -> float:
        return with_numpy(x)

    def __call__(self, x: int) -> float:
        return self.run(x)


tools = types.ModuleType("tools")
tools.__dict__["prepare"] = with_python


def through_a_module(x: int) -> float:
    tools.prepare(x)
    return random.random()


@pytest.mark.parametrize(
    "function",
    [
        with_numpy,
        with_python,
        with_name,
        with_name_of_numpy,
        with_torch,
        with_state,
        in_a_comprehension,
        through_another,
        through_a_closure(),
        through_a_module,
        cached,
        partial(with_numpy, 3),
        Simulation().run,
    ],
)
def test_functions_that_seed(function: Any) -> None:
    """It is seen, directly or through what is called."""
    assert seeds_globally(function)
    assert seeds_globally(function)


def with_own_generator(x: int) -> float:
    return float(np.random.default_rng(x).normal())


def with_own_python(x: int) -> float:
    return random.Random(x).random()


def without_seed(x: int) -> float:
    return random.random() + x


def sow(x: int, seed: int = 3) -> int:
    return x + seed


class Field:
    def __call__(self, x: int) -> int:
        return sow(x)


class Attributes(dict[str, int]):
    """Its keys are attributes, and a missing one raises what a missing key does."""

    __getattr__ = dict.__getitem__


SETTINGS = Attributes(factor=2)
SERVER = ServerProxy("http://127.0.0.1:1")


def with_settings(x: int) -> int:
    return SETTINGS.factor * x


def with_server(x: int) -> Any:
    return SERVER.seed(x)


@pytest.mark.parametrize(
    "function",
    [
        with_own_generator,
        with_own_python,
        without_seed,
        sow,
        with_settings,
        with_server,
        Field(),
        partial(sow, seed=4),
        len,
        int,
        np.sin,
        "text".join,
        lambda x: x,
    ],
)
def test_functions_that_do_not(function: Any) -> None:
    """Generators of one's own, and random numbers that nobody has seeded, are free."""
    assert not seeds_globally(function)


def test_functions_that_call_each_other() -> None:
    """They are gone through once."""

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n > 0 and even(n - 1)

    assert not seeds_globally(even)
