"""The most memory that a process has held; on Linux its own, for `ru_maxrss` of a child begins with its parent's."""

import re
import resource
import sys
from pathlib import Path


def peak_megabytes() -> float:
    """10^6 bytes that this process held at most, since it began."""
    if sys.platform == "linux":
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
