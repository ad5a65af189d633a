"""How long a user waits: cold processes of `roofline predict` and `import roofline`. Prints milliseconds.

Byte code is cached in a temporary folder, as an installed package has it (without it a start compiles 70 modules).

Usage: python benchmarks/start_up.py
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {
    "python itself": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import roofline": ["-c", "import roofline"],
    "roofline predict": ["-m", "roofline", "predict", "llama-3.1-70b", "h100-sxm:8"],
    "roofline predict --json": ["-m", "roofline", "predict", "llama-3.1-70b", "h100-sxm:8", "--json"],
    "roofline --help": ["-m", "roofline", "--help"],
}


def main():
    with tempfile.TemporaryDirectory() as cache:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        measure({**kept, "PYTHONPYCACHEPREFIX": cache})


def measure(environment):
    print(f"{'process':26s} {'fastest':>9s} {'median':>9s} of 15 runs")
    for name, arguments in CASES.items():
        samples = []
        for _ in range(16):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
            samples.append(time.perf_counter() - start)
        samples = samples[1:]  # the first one wrote the byte code
        print(f"{name:26s} {min(samples) * 1e3:6.0f} ms {statistics.median(samples) * 1e3:6.0f} ms")


if __name__ == "__main__":
    main()
