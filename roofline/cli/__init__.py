"""The command line. `main` is the entry point: it runs a command and turns every error into one clear line."""

import sys

from .app import run


def main() -> None:
    """Run the command line and exit: 0 done, 1 infeasible, 2 not understood."""
    sys.exit(run(sys.argv[1:]))
