"""What long commands show on stderr while they work, where that is a terminal: what is being done, and how much."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Tell(Protocol):
    """Changes what a bar shows."""

    def __call__(self, done: float | None = None, total: float | None = None, what: str | None = None) -> None:
        """`what` is worked on, `done` of `total`; None: as before."""


@contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """Shows what is being done: call what it yields with the text."""
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield lambda text: status.update(_plain(text))


@contextmanager
def bar(what: str, *, share: bool = False) -> Iterator[Tell]:
    """A bar of what is done of a total: in numbers, or as a `share` in percent."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    counted = TaskProgressColumn() if share else MofNCompleteColumn()
    columns = (BarColumn(), counted, TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.description}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=None)

        def tell(done: float | None = None, total: float | None = None, what: str | None = None) -> None:
            shown.update(task, completed=done, total=total, description=None if what is None else _plain(what))

        yield tell


def _plain(text: str) -> str:
    """`text` in which Rich reads no markup: a name may hold what looks like it."""
    return text.replace("[", "\\[")
