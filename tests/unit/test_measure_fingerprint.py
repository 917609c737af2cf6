"""A function's fingerprint: the same for the same code, another for another."""

from __future__ import annotations

import subprocess
import sys
from functools import cache, partial
from types import FunctionType

from amorsize_dask.measure.fingerprint import fingerprint_function as fingerprint

SOURCE = """
def helper(x):
    return {x} + 1

def f(item):
    if item in {{"a", "b", "c"}}:
        return helper(item)
    return [helper(y) for y in item]
"""


def define(source: str, name: str = "f") -> FunctionType:
    namespace: dict[str, object] = {"__name__": "defined"}
    exec(compile(source, "defined.py", "exec"), namespace)
    function = namespace[name]
    assert isinstance(function, FunctionType)
    return function


def test_name_and_place_do_not_matter():
    here = define(SOURCE.format(x="x"))
    moved = define("\n\n\n" + SOURCE.format(x="x").replace("def f", "def g"), "g")
    assert fingerprint(here) == fingerprint(moved)


def test_own_code_matters():
    changed = SOURCE.format(x="x").replace("in {", "not in {")
    assert fingerprint(define(SOURCE.format(x="x"))) != fingerprint(define(changed))


def test_code_of_what_it_calls_matters():
    one, other = (define(SOURCE.format(x=x)) for x in ("x", "2 * x"))
    assert fingerprint(one) != fingerprint(other)


def test_functions_that_call_each_other_come_to_an_end():
    source = "def f(x): return g(x)\ndef g(x): return f(x)\n"
    assert len(fingerprint(define(source))) == 16


def test_plain_values_that_it_is_bound_to_matter():
    def bind(value):
        return lambda x: x + value

    assert fingerprint(bind(1)) == fingerprint(bind(1))
    assert fingerprint(bind(1)) != fingerprint(bind(2))
    assert fingerprint(bind([1])) == fingerprint(bind([2, 3]))
    assert fingerprint(bind(len)) == fingerprint(bind(len))
    assert fingerprint(partial(pow, 2)) != fingerprint(partial(pow, 3))
    assert fingerprint(partial(int, base=2)) != fingerprint(partial(int, base=3))
    assert fingerprint(bind(bind(1))) != fingerprint(bind(bind(2)))


def test_large_values_are_not_read_to_their_end():
    def bind(value):
        return lambda x: x + value

    assert fingerprint(bind("x" * 1000)) == fingerprint(bind("x" * 2000))


def test_defaults_of_keywords_matter():
    one, other = (define(f"def f(x, *, n={n}): return x + n") for n in (1, 2))
    assert fingerprint(one) != fingerprint(other)


def test_code_behind_a_cache_matters():
    one, other = (cache(define(f"def f(x): return x + {n}")) for n in (1, 2))
    assert fingerprint(one) != fingerprint(other)


class Settings(dict):
    """Its keys are attributes, and a missing one raises what a missing key does."""

    __getattr__ = dict.__getitem__

    def __call__(self, x):
        return x


def test_objects_that_raise_for_what_they_have_not():
    assert fingerprint(Settings()) == fingerprint(Settings(a=1))


def test_long_numbers():
    """Those of which Python makes no text, since that would take long."""

    def bind(value):
        return lambda x: x % value

    found = [fingerprint(bind(10**n)) for n in (5000, 6000)]
    assert len(set(found)) == 2
    numbers = [f"0x{digit * 5000}" for digit in "ab"]
    for source in ("def f(x): return x % {}", "def f(x): return x in {{{}, 1}}"):
        found = [fingerprint(define(source.format(number))) for number in numbers]
        assert len(set(found)) == 2


class Model:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, x):
        return x * self.factor

    def train(self, x):
        return x + self.factor

    def __call__(self, x):
        return x - self.factor


def test_methods_classes_and_objects():
    model = Model(2)
    found = [model.predict, model.train, model, Model, str, len, str.upper]
    assert len({fingerprint(one) for one in found}) == len(found)
    assert fingerprint(model.predict) == fingerprint(Model(3).predict)


def test_same_in_every_process():
    program = (
        "from amorsize_dask.measure.fingerprint import fingerprint_function\n"
        "def helper(x):\n    return x + 1\n"
        "def f(item):\n"
        "    if item in {'a', 'b', 'c'}:\n        return helper(item)\n"
        "    return [helper(y) for y in item]\n"
        "print(fingerprint_function(f))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(printed) == 1
