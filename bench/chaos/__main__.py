"""Breaks things on purpose and counts what does not survive.

python -m bench.chaos kills [--count 200]         SIGKILL at random moments of trainings of every method, then resume
python -m bench.chaos processes [--count 20]      SIGKILL to one of two processes that train together, then resume
python -m bench.chaos annotations [--count 10000] mutated annotation, detection and result files
python -m bench.chaos images [--count 1000]       mutated and unusual photographs
python -m bench.chaos caches [--count 100]        one crop cache under several builders, killed builders and readers

Each prints counts as JSON and ends with code 1 when something was lost, hung, or ended in a traceback.
"""

import argparse
import json
import sys
import time

from bench.chaos import annotations, caches, images, kills, processes

HARNESSES = {
    "kills": (kills.run, 200),
    "processes": (processes.run, 20),
    "annotations": (annotations.run, 10_000),
    "images": (images.run, 1_000),
    "caches": (caches.run, 100),
}


def main() -> None:
    """Runs one harness."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("harness", choices=HARNESSES)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run, usual = HARNESSES[arguments.harness]
    started = time.perf_counter()
    found = run(arguments.count or usual, arguments.seed)
    print(json.dumps({"harness": arguments.harness, "seed": arguments.seed, **found,
                      "seconds": round(time.perf_counter() - started, 1)}))  # fmt: skip
    sys.exit(bool(found["bad"]))


if __name__ == "__main__":
    main()
