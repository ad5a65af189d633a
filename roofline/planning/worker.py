"""Processes that share a search: each reads tasks from its standard input and answers on its standard output.

Started as `python -m roofline.planning.worker`, so that a script which asks for a plan needs no guard around its main
part, as it would with multiprocessing.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING

from .request import PlanRequest

if TYPE_CHECKING:
    from .search import Task
    from .verdict import Verdict


class Worker:
    """A process that has the request of a search and is sent its tasks."""

    def __init__(self, request: PlanRequest) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._send(request)

    def run(self, task: "Task") -> "list[Verdict]":
        """The Verdicts on a task. Errors: RuntimeError where the process has ended."""
        self._send(task)
        assert self._process.stdout is not None
        try:
            answer: list[Verdict] = pickle.load(self._process.stdout)
        except EOFError:
            raise RuntimeError("a worker process of the search ended early; its message is above") from None
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()


def run_in_processes(request: PlanRequest, batches: "Sequence[Task]", count: int) -> "Iterator[list[Verdict]]":
    """The Verdicts of each batch, in order, from `count` processes."""
    from concurrent.futures import ThreadPoolExecutor

    idle: SimpleQueue[Worker] = SimpleQueue()

    def run(task: "Task") -> "list[Verdict]":
        worker = idle.get()
        try:
            return worker.run(task)
        finally:
            idle.put(worker)

    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        for _ in range(count):
            worker = Worker(request)
            stack.callback(worker.close)
            idle.put(worker)
        yield from threads.map(run, batches)


def serve() -> None:
    """Answers tasks until there are no more."""
    from .search import run_task

    source, target = sys.stdin.buffer, sys.stdout.buffer
    request = pickle.load(source)
    while True:
        try:
            task = pickle.load(source)
        except EOFError:
            return
        pickle.dump(run_task(request, task), target)
        target.flush()


if __name__ == "__main__":
    try:
        serve()
    except KeyboardInterrupt:
        sys.exit(130)
