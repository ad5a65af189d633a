"""The same search on a Dask cluster. Imported only when an address is given."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import RooflineError, clip
from .request import PlanRequest

if TYPE_CHECKING:
    from .search import Task
    from .verdict import Verdict

WAIT_S = "10s"
"""How long to wait for a scheduler to answer."""


def run_on_cluster(request: PlanRequest, batches: "Sequence[Task]", address: str) -> "Iterator[list[Verdict]]":
    """The Verdicts of each batch, in order, from the workers of the scheduler at `address`.

    Errors: RooflineError where dask is not installed or no scheduler answers.
    """
    try:
        from dask.distributed import Client
    except ImportError:
        raise RooflineError("cluster: dask is missing. Install it with: pip install 'roofline[cluster]'.") from None
    from .search import run_task

    try:
        client = Client(address, timeout=WAIT_S)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RooflineError(
            f"cluster: no Dask scheduler answers at {clip(address)} ({reason}). Accepted: an address such as "
            "tcp://host:8786."
        ) from None
    with client:
        shared = client.scatter(request, broadcast=True)
        futures = [client.submit(run_task, shared, batch, pure=False) for batch in batches]
        for future in futures:
            yield future.result()
            future.release()
