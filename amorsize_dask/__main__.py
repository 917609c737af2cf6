"""The command line: `amorsize-dask`, or `python -m amorsize_dask`."""

from __future__ import annotations

from functools import partial

import click
from rich.console import Console

from amorsize_dask.demo import QUICK_STEP, DemoRun, find_modules, run_demo
from amorsize_dask.measure.history import shared
from amorsize_dask.report import (
    show_progress,
    tabulate_costs,
    tabulate_demo,
    tabulate_history,
    tabulate_limits,
    tabulate_surroundings,
)
from amorsize_dask.validation import validate_system


@click.group()
@click.version_option(package_name="amorsize-dask")
def main() -> None:
    """Run Dask graphs in the lanes that were measured to be the fastest."""


@main.command()
@click.option("--quick", is_flag=True, help=f"Take one of {QUICK_STEP} modules only.")
def demo(quick: bool) -> None:
    """Parse Python's standard library under each of Dask's schedulers and this one.

    Exits with 1 if the results differ.
    """
    console = Console()
    paths = find_modules()[:: QUICK_STEP if quick else 1]
    console.print(
        f"Counting the AST nodes of {len(paths)} modules of Python's standard library "
        "as a bag, under each scheduler in turn."
    )
    runs: list[DemoRun] = []
    for run in run_demo(paths, partial(show_progress, console)):
        runs.append(run)
        console.print(f"{run.name:>14}  {run.seconds:.2f} s")
    console.print(tabulate_demo(runs))
    for run in runs:
        if run.record is not None:
            console.print(f"\n{run.name}", style="bold")
            console.print(
                str(run.record), markup=False, highlight=False, soft_wrap=True
            )
    different = [run.name for run in runs if run.counts != runs[0].counts]
    if different:
        raise click.ClickException(
            f"other results than under {runs[0].name}: {'; '.join(different)}"
        )
    console.print("\nAll results are equal.")


@main.command()
def doctor() -> None:
    """Show what limits a run here, what work costs, and what is in the way.

    Starts a worker process to see that it can be done, and takes about a second.
    """
    console = Console()
    found = validate_system()
    console.print(tabulate_limits(found.core_limits, found.memory_limits))
    console.print(
        tabulate_surroundings(
            found.physical_cores, found.thread_hints, found.nodes, found.load
        )
    )
    console.print(tabulate_costs(found.costs))
    console.print(f"Worker processes start by {found.start_method or 'no method'}.")
    for text in found.warnings:
        console.print(f"Warning: {text}.", style="yellow", markup=False)
    if not found.warnings:
        console.print("Nothing is in the way.")


@main.command()
@click.option("--clear", is_flag=True, help="Forget all of it.")
def history(clear: bool) -> None:
    """Show what is known from earlier runs, or forget it.

    Stages are known by what their functions do, whatever their names are.
    """
    console = Console()
    entries = shared.entries()
    if clear:
        try:
            shared.clear()
        except OSError as error:
            raise click.ClickException(f"the file can't be removed: {error}") from error
        console.print(f"Forgotten: {len(entries)} stages.")
    elif entries:
        console.print(tabulate_history(entries))
    else:
        console.print("Nothing is known from earlier runs.")


if __name__ == "__main__":
    main()
