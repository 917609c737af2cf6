"""What random bags are made with: items, functions and arguments by what they are for.

Kinds of items: "int", "str", "pair" (of ints), "list" (of ints), "dict" (of `fields`),
"iter" (an iterator over ints), "group" (a name and a list) and "any".
"""

from __future__ import annotations

from functools import partial
from operator import add, itemgetter, methodcaller, neg
from typing import Any

import dask.bag as db
import tlz
from bag_descriptions import Call, Lambda
from bag_functions import (
    Scale,
    adder,
    count_up,
    fields,
    generate,
    half,
    keep_first,
    mix,
    mix_two,
    none_if_odd,
    record,
    refuse_three,
    stop_at_three,
    twice,
    type_name,
)
from dask.delayed import delayed
from hypothesis import strategies as st
from strategies import increment, is_odd, modulo_3, reverse, up_to_3

# -- functions by the kind of item that they are for -----------------------------------

#: Function and the kind of what it returns, by the kind that it takes.
MAPS: dict[str, list[tuple[Any, str]]] = {
    "int": [
        (increment, "int"),
        (Lambda("lambda x: 3 * x % 1000"), "int"),
        (Call(adder, (5,)), "int"),
        (Call(partial, (add, 2)), "int"),
        (Call(Scale, (7,)), "int"),
        (Call(getattr, (Call(Scale, (7,)), "add")), "int"),
        (Call(tlz.curry, (add, 1)), "int"),
        (str, "str"),
        (half, "pair"),
        (up_to_3, "list"),
        (fields, "dict"),
        (count_up, "iter"),
        (none_if_odd, "any"),
        (record, "any"),
    ],
    "str": [
        (len, "int"),
        (str.upper, "str"),
        (Call(methodcaller, ("center", 4)), "str"),
        (Lambda("lambda s: s + '!'"), "str"),
        (record, "any"),
        (Call(methodcaller, ("split",)), "any"),
    ],
    "pair": [
        (sum, "int"),
        (Call(itemgetter, (0,)), "int"),
        (Lambda("lambda p: (p[1], p[0])"), "pair"),
        (list, "list"),
        (mix, "int"),
    ],
    "list": [
        (sum, "int"),
        (len, "int"),
        (sorted, "list"),
        (reverse, "list"),
        (iter, "iter"),
        (mix, "int"),
    ],
    "dict": [
        (Call(itemgetter, ("a",)), "int"),
        (Lambda("lambda d: {**d, 'a': d['a'] + 1}"), "dict"),
        (mix, "int"),
    ],
    "iter": [(list, "list"), (sum, "int")],
    "group": [
        (Call(itemgetter, (0,)), "any"),
        (Lambda("lambda group: len(group[1])"), "int"),
        (mix, "int"),
    ],
    "any": [(mix, "int"), (record, "any"), (type_name, "str"), (str, "str")],
}

PREDICATES: dict[str, list[Any]] = {
    "int": [is_odd, Lambda("lambda x: x > 3"), bool, None],
    "str": [str.isalpha, bool, Lambda("lambda s: 'o' in s")],
    "pair": [Lambda("lambda p: p[0] % 2"), all],
    "list": [bool, len, None],
    "dict": [Lambda("lambda d: 'b' in d"), bool],
    "group": [Lambda("lambda group: len(group[1]) > 1")],
    "any": [bool, None, callable],
}

#: What to group, sort, join or tell items apart by.
KEYS: dict[str, list[Any]] = {
    "int": [modulo_3, neg, Lambda("lambda x: x // 4")],
    "str": [len, str.lower],
    "pair": [0, 1, Call(itemgetter, (1,)), sum],
    "list": [len, sum, tuple],
    "dict": ["a", Call(itemgetter, ("a",)), len],
    "group": [Call(itemgetter, (0,))],
    "any": [type_name, str],
}

#: Two items, or a total and an item, to one.
FOLDS: dict[str, list[Any]] = {
    "int": [add, max, mix_two, Lambda("lambda x, y: (2 * x + y) % 1000")],
    "str": [add, max],
    "pair": [max, Lambda("lambda p, q: (p[0] + q[0], p[1] - q[1])")],
    "list": [add, keep_first],
    "dict": [keep_first, mix_two],
    "group": [keep_first],
    "any": [mix_two, keep_first],
}

#: On partitions of any items.
ON_PARTITIONS: list[Any] = [
    list,
    reverse,
    generate,
    tuple,
    iter,
    twice,
    Lambda("lambda part: (x for x in part)"),
    Lambda("lambda part: list(part)[1:]"),
]

#: Functions that fail, or stop, at some items; or at the wrong kind of item.
RISKY = [
    refuse_three,
    stop_at_three,
    Lambda("lambda x: 1 // (x - 3)"),
    len,
    increment,
    str.upper,
    int,
]

# -- arguments -------------------------------------------------------------------------

atoms = st.none() | st.integers(0, 9) | st.sampled_from(["x", "", 1.5, b"b", True])

#: Arguments that are no collections. None of them looks like a task or like a key.
literals = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(lambda parts: (None, *parts))
        | st.dictionaries(st.sampled_from(["p", "q"]), inner, max_size=2)
    ),
    max_leaves=4,
)

_digits = st.integers(0, 9)

#: Items by their kind.
ITEMS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(0, 20),
    "str": st.sampled_from(["", "a", "b", "abc", "one two", "7", "Ä"]),
    "pair": st.tuples(_digits, _digits),
    "list": st.lists(_digits, max_size=3),
    "dict": _digits.map(fields),
    "any": literals,
}
#: What a sequence is made of, more often what more can be done with.
KINDS = ["int", "int", "int", "str", "pair", "list", "dict", "any"]

#: Delayed values and items that come from nowhere.
DELAYED = [
    Call(delayed, (5,)),
    Call(delayed, ([1, 2],)),
    Call(delayed, (increment,), {"pure": True}).then("__call__", 3),
    Call(delayed, ({"a": 1},)),
    Call(db.Item.from_delayed, (Call(delayed, (7,)),)),
]

#: Delayed partitions, also iterators.
DELAYED_PARTITIONS = [
    Call(delayed, ([1, 2, 3],)),
    Call(delayed, (list,)).then("__call__", [4, 5]),
    Call(delayed, (range,)).then("__call__", 3),
    Call(delayed, (count_up,)).then("__call__", 3),
    Call(delayed, (tuple,)).then("__call__", [7]),
    Call(delayed, (list,)).then(
        "__call__", Call(delayed, (range,)).then("__call__", 2)
    ),
]
