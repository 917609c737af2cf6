"""What people should know of their work: when not to share it out, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from amorsize_dask.core.model import WAITING_FRACTION, Lane
from amorsize_dask.core.units import format_bytes, format_seconds
from amorsize_dask.planning.choice import Choice
from amorsize_dask.planning.pools import PoolChoice
from amorsize_dask.planning.profile import DiagnosticProfile

#: Seconds of a call below which it is said to be too fast to be sent by itself; the
#: guide's rule of thumb is ten times that, for chunks of one item.
FAST_S = 0.001

#: Items below which there are said to be few.
FEW_ITEMS = 100

#: Bytes of a result or of an item from which on they are called large, of all of them
#: together if each has at least a tenth of that, and of the function.
LARGE_BYTES = 10_000_000
LARGE_TOTAL_BYTES = 1_000_000_000
LARGE_FUNCTION_BYTES = 1_000_000

#: Deviation over mean from which on items are called uneven.
UNEVEN = 0.5

#: Share of the memory that all results together may take without a word.
RESULTS_FRACTION = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Why the work is run as it is, and what else to know."""

    reason: str
    warnings: tuple[str, ...]


def advise(
    profile: DiagnosticProfile, choice: Choice, pool: PoolChoice, error: str | None
) -> Advice:
    """Put into words what was found.

    Parameters
    ----------
    profile : DiagnosticProfile
        What was measured.
    choice : Choice
        Where our own run takes place.
    pool : PoolChoice
        What suits a pool.
    error : str or None
        What the function raised, if it has.
    """
    reason = _explain(profile, choice, pool, error)
    return Advice(reason=reason, warnings=tuple(_warn(profile, choice, pool, error)))


def _explain(
    profile: DiagnosticProfile, choice: Choice, pool: PoolChoice, error: str | None
) -> str:
    if not profile.n_items_assumed:
        return "Serial execution recommended: there are no items"
    if not profile.n_sampled - profile.n_failed:
        return (
            f"Serial execution recommended: each of {profile.n_failed} items that were "
            f"tried raised {error}, so nothing is known of what the others take"
        )
    if profile.shared_state:
        return (
            f"Serial execution recommended: calls change what other calls see "
            f"({profile.shared_state}). In other processes they would change copies. "
            "Return what is to be kept instead, and put it together afterwards"
        )
    if choice.lane is Lane.INLINE:
        return f"Serial execution recommended: {_explain_loop(profile, choice)}"
    if is_waiting(profile) and pool.n_jobs == 1:
        return (
            f"The function waits {1 - profile.cpu_fraction:.0%} of its time: "
            f"{choice.n_workers} {choice.lane} wait at the same time, as compute() "
            f"does, or use asyncio. For a process pool serial execution is "
            f"recommended: it waits no faster. {choice.reason}"
        )
    if pool.n_jobs == 1:
        why = profile.unpicklable or "processes of its own would cost more"
        return f"{choice.reason}. For a process pool serial execution: {why}"
    return choice.reason


def _explain_loop(profile: DiagnosticProfile, choice: Choice) -> str:
    n, mean_s = profile.n_items_assumed, profile.avg_execution_time
    whole = f"{n} items of {format_seconds(mean_s)}"
    if profile.n_cores == 1 and not is_waiting(profile):
        return f"there is one core; {whole}"
    if profile.n_inner_cores > 1:
        return (
            f"a call uses {profile.n_inner_cores:.1f} cores by itself, with threads "
            f"inside of it; {whole}"
        )
    if profile.unsendable and not is_waiting(profile):
        return f"{profile.unsendable}; {whole}"
    if mean_s < FAST_S:
        return (
            f"the function is too fast, {whole} are {format_seconds(profile.serial_s)} "
            "of work, and sending them costs more than it saves. Do several operations "
            "in one call, or use vectorised ones, such as NumPy's"
        )
    if n < FEW_ITEMS:
        return (
            f"too few items: {whole} are {format_seconds(profile.serial_s)} of work, "
            "which is too little to start workers for"
        )
    return choice.reason


def is_waiting(profile: DiagnosticProfile) -> bool:
    """Whether the function waits more than it computes."""
    return profile.cpu_fraction <= WAITING_FRACTION


def _are_large(n_bytes: float, n: int) -> bool:
    total_bytes = n * n_bytes if n_bytes >= LARGE_BYTES / 10 else 0
    return n_bytes >= LARGE_BYTES or total_bytes >= LARGE_TOTAL_BYTES


def _warn(
    profile: DiagnosticProfile, choice: Choice, pool: PoolChoice, error: str | None
) -> Iterator[str]:
    n, mean_s = profile.n_items_assumed, profile.avg_execution_time
    if profile.n_failed:
        yield (
            f"{profile.n_failed} of {profile.n_sampled} items that were tried raised "
            f"{error}. Filter such items before, or catch it in the function: the "
            "first one ends the run"
        )
    if profile.n_items is None:
        yield (
            f"The data has no length; it is taken to have {n} items. stream() and "
            "process_in_batches go through it bit by bit"
        )
    if profile.unsendable:
        yield f"Processes can't be used: {profile.unsendable}"
    elif profile.unpicklable:
        yield (
            f"A pool of multiprocessing can't be used: {profile.unpicklable}. Define "
            "the function at the top of a module, or let compute() or map(pool) run "
            "it: they send it by cloudpickle"
        )
    if _are_large(profile.out_bytes, n) or (
        profile.out_bytes * n > RESULTS_FRACTION * profile.memory_bytes
    ):
        yield (
            f"Results are large, {format_bytes(profile.out_bytes)} each: use stream() "
            "or process_in_batches, or save them in the function and return the name "
            "of the file"
        )
    if _are_large(profile.in_bytes, n):
        yield (
            f"Items are large, {format_bytes(profile.in_bytes)} each: let the "
            "function read them, and pass names of files"
        )
    if profile.function_bytes >= LARGE_FUNCTION_BYTES:
        yield (
            f"The function brings {format_bytes(profile.function_bytes)} along, which "
            "a pool sends with each chunk. compute() sends it once to each worker"
        )
    if profile.avg_pickle_time > mean_s > 0 and profile.serial_s > FAST_S:
        yield (
            f"Pickling takes {format_seconds(profile.avg_pickle_time)} an item, longer "
            f"than the call, which takes {format_seconds(mean_s)}"
        )
    if (profile.coefficient_of_variation or 0) > UNEVEN and choice.lane != "inline":
        yield (
            f"Items are uneven: their deviation is "
            f"{profile.coefficient_of_variation:.1f} times the mean. A smaller "
            "target_chunk_duration evens out a pool's chunks"
        )
    if profile.n_inner_cores > 1:
        yield (
            f"A call keeps {profile.n_inner_cores:.1f} cores busy by threads inside of "
            "it. Limit these to one, with threadpoolctl or OMP_NUM_THREADS, before "
            "several calls run at once"
        )
    wanted = profile.n_physical_cores
    if profile.peak_bytes and choice.lane is Lane.PROCESSES and pool.n_jobs < wanted:
        fit = profile.memory_bytes / (profile.peak_bytes + profile.out_bytes)
        if fit < wanted:
            yield (
                f"Memory allows {max(1, int(fit))} at once: a call takes up to "
                f"{format_bytes(profile.peak_bytes)}"
            )
