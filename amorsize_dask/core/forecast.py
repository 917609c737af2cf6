"""When it is predicted what a run takes, and by what.

The first tasks are rarely typical: files are sorted by size, and customers by age. So
before a prediction is made the edge is asked how large the tasks are of the stage that
has most to do (`Weigh`). If the seconds of those that have finished go with their sizes
the others are taken for what they are, and the prediction waits until a tenth of that
is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import pstdev

from amorsize_dask.core.events import Weigh, Weighed
from amorsize_dask.core.graph import GraphState
from amorsize_dask.core.model import Decision, Limits, Machine
from amorsize_dask.core.outcome import Outcome
from amorsize_dask.core.outlook import Outlook, Sized, look_out
from amorsize_dask.core.stage import Stage
from amorsize_dask.core.trend import LEAST_COMPARED, Trend, find_trend

#: Share by which more tasks must have finished for another look. Smaller: each takes a
#: look at all stages; larger: more than a tenth is done when it is seen.
LOOK_FRACTION = 0.1

#: Tasks of a graph above which no sizes are looked at. Smaller: graphs of that many are
#: judged by their head; larger: looking takes milliseconds.
MOST_WEIGHED = 1200

#: Seconds of a stage's work below which they aren't. Smaller: it is a large part of
#: what a short run takes; larger: short runs are judged by their head.
WEIGHED_S = 0.02

#: Share of all sizes that must have finished before it is said that they tell nothing,
#: where few tasks have. Smaller: the head decides; larger: it is known late.
UNCLEAR_FRACTION = 0.2


class Forecast:
    """What a run is predicted to take, and when that is predicted.

    Attributes
    ----------
    outlook : Outlook or None
        What was predicted, once it was.
    """

    def __init__(
        self,
        graph: GraphState,
        stages: Sequence[Stage],
        machine: Machine,
        limits: Limits,
    ) -> None:
        self.outlook: Outlook | None = None
        self._graph = graph
        self._stages = stages
        self._machine = machine
        self._limits = limits
        self._next_look = 1.0
        # By stage, what its tasks took that have finished.
        self._seconds: dict[int, dict[int, float]] = {}
        # Stages of whose tasks sizes may be seen, and those where they have been.
        self._sizable: set[int] = set()
        if len(graph.graph) <= MOST_WEIGHED:
            self._sizable.update(graph.graph.sized_stages - graph.graph.caller_stages)
        self._sized: set[int] = set()
        # What they tell, and whether there are still too few of them.
        self._sized_by: dict[int, Sized] = {}
        self._is_unclear = False
        self._is_asking = False

    def note_machine(self, machine: Machine) -> None:
        """Go by another machine from now on."""
        self._machine = machine

    def note(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Take note of tasks of a stage that have finished."""
        if self.outlook is not None or number not in self._sizable:
            return
        seconds = self._seconds.setdefault(number, {})
        seconds.update((outcome.task, outcome.seconds) for outcome in outcomes)

    def look(self, decisions: Sequence[Decision]) -> list[Weigh]:
        """Predict the end if a tenth is done, or ask for what is needed for that.

        It isn't looked at after each task, nor when there is nothing left to predict.
        """
        graph, n_finished = self._graph.graph, self._graph.n_finished
        if self.outlook or graph.is_open or n_finished < self._next_look:
            return []
        if self._graph.is_finished:
            return []
        # Of many stages a look takes long.
        n_more = max(1.0, LOOK_FRACTION * n_finished, graph.n_stages / 4)
        self._next_look = n_finished + n_more
        outlook = self._look_out(decisions, {})
        number = self._find_largest()
        if number is None:
            self.outlook = outlook
        elif not self._is_asking and (outlook or number not in self._sized):
            # For the first time before it is needed: mostly there are no sizes.
            self._is_asking = True
            return [Weigh(number)]
        return []

    def weigh(self, event: Weighed) -> bool:
        """Take in the sizes of a stage's tasks; say whether they tell of what is left.

        If they do the stage knows it.
        """
        self._is_asking = False
        number, sizes = event.stage, event.sizes
        self._sized_by, self._stages[number].left_s = {}, None
        if not sizes:
            self._give_up(number)
            return False
        self._sized.add(number)
        done = self._seconds.get(number, {})
        done_size = sum(sizes[task] for task in done if task in sizes)
        pairs = self._pair(number, sizes)
        trend = find_trend(pairs)
        self._is_unclear = (
            trend is None
            and len(pairs) < LEAST_COMPARED
            and done_size < UNCLEAR_FRACTION * sum(sizes.values())
        )
        if trend is None or not self._stages[number].n_left:
            return False
        self._sized_by = {number: self._judge(number, sizes, trend)}
        return True

    def predict(self, decisions: Sequence[Decision]) -> None:
        """Predict the end, if a tenth is done by what is known now."""
        if not self._is_unclear:
            self.outlook = self._look_out(decisions, self._sized_by)

    def _give_up(self, number: int) -> None:
        self._sizable.discard(number)
        self._seconds.pop(number, None)

    def _look_out(
        self, decisions: Sequence[Decision], sized: Mapping[int, Sized]
    ) -> Outlook | None:
        return look_out(
            self._stages,
            decisions,
            self._graph.graph.caller_stages,
            self._machine,
            self._limits,
            sized,
        )

    def _find_largest(self) -> int | None:
        """Return the stage to weigh; ``None`` if there is none that can be."""
        if not self._sizable:
            return None
        left_s = {
            number: stage.n_left * stage.statistics.mean_s
            for number, stage in enumerate(self._stages)
            if number not in self._graph.graph.caller_stages
        }
        number = max(left_s, key=lambda number: left_s[number])
        worked_s = self._stages[number].statistics.worked_s
        is_little = left_s[number] + worked_s < WEIGHED_S
        return number if number in self._sizable and not is_little else None

    def _pair(
        self, number: int, sizes: Mapping[int, float]
    ) -> list[tuple[float, float]]:
        """Return sizes and seconds of tasks that have finished, by item."""
        n_items = self._graph.n_items
        return [
            (sizes[task] / n_items(task), seconds / n_items(task))
            for task, seconds in self._seconds.get(number, {}).items()
            if task in sizes
        ]

    def _judge(self, number: int, sizes: Mapping[int, float], trend: Trend) -> Sized:
        """Return what is left of a stage whose tasks' seconds go with their sizes."""
        stage, done = self._stages[number], self._seconds.get(number, {})
        left_size = sum(size for task, size in sizes.items() if task not in done)
        left_s = stage.n_left * trend.base_s + left_size * trend.slope_s
        left = [
            size / self._graph.n_items(task)
            for task, size in sizes.items()
            if task not in done
        ]
        stage.left_s = left_s / stage.n_left, trend.slope_s * pstdev(left or [0.0])
        n_all = stage.n_left + stage.statistics.n_items_finished
        means = [size / self._graph.n_items(task) for task, size in sizes.items()]
        return Sized(
            left_s=left_s,
            mean_s=(stage.statistics.worked_s + left_s) / n_all,
            std_s=trend.slope_s * pstdev(means),
        )
