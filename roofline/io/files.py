"""Writing files so that nothing half-written is left: a temporary file beside it, then a rename. CSV as text."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import RooflineError


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, replacing an existing file only when all is written.

    Errors: RooflineError where the folder does not exist or cannot be written.
    """
    handle, temporary = _temporary(path)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise _refused(path, error) from None
    except BaseException:
        os.unlink(temporary)
        raise


def require_writable(path: Path) -> None:
    """Errors: RooflineError where `path` could not be written at the end: told before minutes of work."""
    handle, temporary = _temporary(path)
    os.close(handle)
    os.unlink(temporary)


def csv_text(header: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """A header and rows as CSV; None is an empty cell."""
    import csv
    import io

    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return target.getvalue()


def _temporary(path: Path) -> tuple[int, str]:
    """An open temporary file beside `path`."""
    import tempfile  # a command that writes no file starts without it

    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> RooflineError:
    return RooflineError(f"output: cannot write {path}: {error.strerror}. Give a path in a folder you own.")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
