"""Fault injection: breaks things on purpose and counts what does not survive.

python -m bench.fault_injection NAME [--count N] [--seed S]

kills        SIGKILL at random moments of trainings of every method, then resume
processes    SIGKILL of one of two processes that train together, then resume
annotations  mutated annotation, detection and result files
images       mutated and unusual images
caches       one crop cache under several builders, killed builders and readers

Each prints counts as JSON. The exit code is 1 if something was lost, hung, or ended in a traceback.
"""

import argparse
import json
import sys
import time

from bench.fault_injection import annotations, caches, images, kills, processes

HARNESSES = {
    "kills": (kills.run, 200),
    "processes": (processes.run, 20),
    "annotations": (annotations.run, 10_000),
    "images": (images.run, 1_000),
    "caches": (caches.run, 100),
}


def main() -> None:
    """Runs one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("harness", choices=HARNESSES)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run, default = HARNESSES[arguments.harness]
    started = time.perf_counter()
    found = run(arguments.count or default, arguments.seed)
    print(json.dumps({"harness": arguments.harness, "seed": arguments.seed, **found,
                      "seconds": round(time.perf_counter() - started, 1)}))  # fmt: skip
    sys.exit(bool(found["bad"]))


if __name__ == "__main__":
    main()
