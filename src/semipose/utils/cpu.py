"""The CPUs of this process."""

import os


def available_cpus() -> int:
    """Returns the number of CPUs that this process may use: all CPUs of the machine, unless it is pinned to some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
