"""How long a user waits: cold processes of `roofline predict` and `import roofline`. Prints milliseconds.

Usage: python benchmarks/start_up.py
"""

import statistics
import subprocess
import sys
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
    print(f"{'process':26s} {'fastest':>9s} {'median':>9s} of 15 runs")
    for name, arguments in CASES.items():
        samples = []
        for _ in range(15):
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            samples.append(time.perf_counter() - start)
        print(f"{name:26s} {min(samples) * 1e3:6.0f} ms {statistics.median(samples) * 1e3:6.0f} ms")


if __name__ == "__main__":
    main()
