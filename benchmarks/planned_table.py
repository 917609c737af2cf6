"""What plans were worth, as a document: ratios, predictions, limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from planned_run import Found, Round, gather
from simulated_plans import Found as Simulated
from table import format_table

from amorsize_dask.core.model import WAITING_FRACTION
from amorsize_dask.core.units import format_seconds

#: What the figures must not be above.
POOL, BAG, EXECUTE = 1.1, 1.1, 1.05
OPTIMIZE_S, OPTIMIZE_FRACTION = 0.05, 0.05
MEDIAN_ERROR, TENTH_ERROR = 0.15, 0.35

#: Seconds of `compute` below which it has only put together what was sampled.
NOTHING_LEFT_S = 0.001

HOW = """\
Written by `python benchmarks/plans.py`. Of each workload, in a process of its own,
`optimize` makes a plan; then a loop, a `multiprocessing.Pool` with each of a grid of
process counts and chunk sizes (new each time), `Plan.compute`, `execute`, and bags of
several partition sizes run in turn: {n_rounds} rounds, and one before that doesn't
count. In each round the plan is new and another call is first. Figures are of medians.

- **pool**: `pool.map` as the plan says, over the best of the grid, a loop included: in
  each round over the one that was best in the others, since the fastest of many in the
  same one was lucky. Of a function that waits, `n_jobs` is 1 by design: threads are for
  that, so `compute` stands for the pool.
- **bag**: computing the bag of `from_sequence`, over that in the best partitions, under
  this scheduler. Bags are made before the clock, as in the other benchmarks.
- **pool, compute, early predicted**: seconds that the plan predicted for the pool and
  for `compute`, and the scheduler for the bag when a tenth of its work was done, over
  those that it took; each is compared with its own run. "–": the sample has done all
  of it, or the run was over before.
- **optimize, beside**: its seconds, and those beside the calls that it makes one after
  the other: their results are kept, and nothing calls the function with these items
  again. One item is always tried to its end, however long it is.
- **execute**: over the loop.
- Bold figures are above their limits."""

SIMULATED = """\
The same on the simulated machine, where no one else is and nothing is random: what the
planner recommends after the sample that `optimize` would take, against a grid. Pools
must fit into the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one workload; see `HOW`."""

    name: str
    plan: str
    loop_s: float
    pool: float
    bag: float
    pool_predicted: float
    compute_predicted: float | None
    early_predicted: float | None
    item_s: float
    optimize_s: float
    beside_s: float
    execute: float

    @property
    def optimize_most_s(self) -> float:
        """What `optimize` may take."""
        return max(OPTIMIZE_S, OPTIMIZE_FRACTION * self.loop_s)


def make_row(name: str, found: Found) -> Row:
    """Return the figures of one workload."""
    seconds = {title: median(values) for title, values in gather(found).items()}
    rounds = found.rounds
    early = [r.early_predicted for r in rounds if r.early_predicted is not None]
    last = rounds[-1]
    n_jobs, chunksize = last.pool.split()[1:]
    return Row(
        name=name,
        plan=f"{n_jobs} x {chunksize}, {last.lane}, {last.bag.split()[1]} a partition",
        loop_s=seconds["pool 1 1"],
        pool=_compare(found, "pool ", _find_pool),
        bag=_compare(found, "bag ", lambda each: each.bag),
        pool_predicted=median(
            each.pool_predicted_s / each.seconds[each.pool] for each in rounds
        ),
        compute_predicted=median(
            each.compute_predicted_s / each.seconds["compute"] for each in rounds
        )
        if seconds["compute"] > NOTHING_LEFT_S
        else None,
        early_predicted=median(early) if early else None,
        item_s=median(each.item_s for each in rounds),
        optimize_s=median(each.optimize_s for each in rounds),
        beside_s=median(each.optimize_s - each.kept_s for each in rounds),
        execute=seconds["execute"] / seconds["pool 1 1"],
    )


def _find_pool(each: Round) -> str:
    """Return what stands for the pool that was planned."""
    is_waiting = each.cpu_fraction <= WAITING_FRACTION
    return "compute" if each.pool == "pool 1 1" and is_waiting else each.pool


def _compare(found: Found, prefix: str, planned: Callable[[Round], str]) -> float:
    """Return what was planned over the best of the calls whose titles begin so.

    Which of them is the best is told by the other rounds: the one that was fastest in
    the same round was mostly lucky, and the more there are the luckier.
    """
    ratios = []
    for each in found.rounds:
        others = [other for other in found.rounds if other is not each] or [each]
        seconds = gather(Found(rounds=others))
        medians = {
            title: median(seconds[title])
            for title in each.seconds
            if title.startswith(prefix) and title in seconds
        }
        best = min(medians, key=lambda title: medians[title])
        ratios.append(each.seconds[planned(each)] / each.seconds[best])
    return median(ratios)


def write_document(
    rows: Sequence[Row],
    simulated: Sequence[Simulated],
    failures: Mapping[str, str],
    machine: Sequence[str],
    n_rounds: int,
    seconds: float,
) -> str:
    """Return the whole document.

    Parameters
    ----------
    rows : sequence of Row
        What was measured.
    simulated : sequence of Simulated
        What was simulated.
    failures : mapping of str to str
        Workloads that failed, and how.
    machine : sequence of str
        Lines about what the figures depend on.
    n_rounds : int
        Rounds that were run.
    seconds : float
        How long all took.
    """
    parts = [
        "# Are plans right?",
        HOW.format(n_rounds=n_rounds),
        "\n".join(f"- {line}" for line in machine)
        + f"\n- all of it took {format_seconds(seconds)}",
        "## In short",
        "\n".join(f"- {line}" for line in judge(rows, simulated)),
    ]
    if rows:
        parts += ["## Measured", _format_rows(rows)]
    if simulated:
        parts += ["## Simulated", SIMULATED, _format_simulated(simulated)]
    if failures:
        lines = [f"- `{name}`: {text}" for name, text in failures.items()]
        parts += ["## Failed", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def judge(rows: Sequence[Row], simulated: Sequence[Simulated]) -> list[str]:
    """Return line by line which limits are reached."""
    lines = []
    if rows:
        lines += [
            _judge("pool", [(row.name, row.pool) for row in rows], POOL),
            _judge("bag", [(row.name, row.bag) for row in rows], BAG),
            _judge(
                "execute / loop", [(row.name, row.execute) for row in rows], EXECUTE
            ),
            _judge(
                "optimize, over the larger of 50 ms and 5 % of the loop",
                [(row.name, row.optimize_s / row.optimize_most_s) for row in rows],
                1.0,
            ),
            _judge(
                "optimize beside the calls that are kept, over the same",
                [(row.name, row.beside_s / row.optimize_most_s) for row in rows],
                1.0,
            ),
            *(
                f"optimize waits for one call of `{row.name}`, which takes "
                f"{format_seconds(row.item_s)}: it can't take less"
                for row in rows
                if row.item_s > row.optimize_most_s
            ),
            *_judge_errors("", rows),
        ]
    if simulated:
        names = [f"{one.work} on {one.machine}" for one in simulated]
        pools = [(name, one.pool) for name, one in zip(names, simulated, strict=True)]
        bags = [(name, one.bag) for name, one in zip(names, simulated, strict=True)]
        lines += [
            _judge("simulated pool", pools, POOL),
            _judge("simulated bag", bags, BAG),
            *_judge_errors("simulated, ", simulated),
        ]
    return lines


def _judge(what: str, figures: Sequence[tuple[str, float]], most: float) -> str:
    above = [f"`{name}` {figure:.3g}" for name, figure in figures if figure > most]
    word = f"**not reached** by {', '.join(above)}" if above else "reached by all"
    largest = max(figure for _, figure in figures)
    return f"{what}: must be <= {most:g}, is at most {largest:.3g}: {word}"


def _judge_errors(prefix: str, found: Sequence[Row] | Sequence[Simulated]) -> list[str]:
    lines = []
    for what in ("pool", "compute", "early"):
        ratios = [getattr(one, f"{what}_predicted") for one in found]
        errors = [abs(ratio - 1) for ratio in ratios if ratio is not None]
        if len(errors) < 2:
            continue
        half, tenth = median(errors), quantiles(errors, n=10, method="inclusive")[-1]
        is_reached = half <= MEDIAN_ERROR and tenth <= TENTH_ERROR
        lines.append(
            f"{prefix}{what} predicted: off by {half:.0%} in the median (must be <= "
            f"{MEDIAN_ERROR:.0%}), nine tenths of them by at most {tenth:.0%} (<= "
            f"{TENTH_ERROR:.0%}): {'reached' if is_reached else '**not reached**'}"
        )
    return lines


def _mark(figure: float, most: float, shown: Callable[[float], str]) -> str:
    return f"**{shown(figure)}**" if figure > most else shown(figure)


def _ratio(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.2f}"


def _format_rows(rows: Sequence[Row]) -> str:
    head = ["workload", "plan", "loop", "pool", "bag", "pool predicted"]
    head += ["compute predicted", "early predicted", "optimize", "beside", "execute"]
    cells = [
        [
            f"`{row.name}`",
            row.plan,
            format_seconds(row.loop_s),
            _mark(row.pool, POOL, _ratio),
            _mark(row.bag, BAG, _ratio),
            _ratio(row.pool_predicted),
            _ratio(row.compute_predicted),
            _ratio(row.early_predicted),
            _mark(row.optimize_s, row.optimize_most_s, format_seconds),
            _mark(row.beside_s, row.optimize_most_s, format_seconds),
            _mark(row.execute, EXECUTE, _ratio),
        ]
        for row in rows
    ]
    return format_table(head, cells, 2)


def _format_simulated(simulated: Sequence[Simulated]) -> str:
    head = ["machine", "workload", "plan", "pool", "best pool", "bag", "best size"]
    head += ["pool predicted", "compute predicted", "early predicted"]
    cells = [
        [
            one.machine,
            f"`{one.work}`",
            one.plan,
            _mark(one.pool, POOL, _ratio),
            one.best_pool,
            _mark(one.bag, BAG, _ratio),
            one.best_bag,
            _ratio(one.pool_predicted),
            _ratio(one.compute_predicted),
            _ratio(one.early_predicted),
        ]
        for one in simulated
    ]
    return format_table(head, cells, 3)
