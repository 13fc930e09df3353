"""Memory of a training process.

Every step frees and takes hundreds of large blocks. By default glibc hands each back to the system, which then clears
it page by page for the next: a fifth of a step's time.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of glibc's mallopt, from malloc.h


def keep_freed_memory() -> bool:
    """Lets this process keep freed memory for what comes next.

    Linux with glibc only; elsewhere nothing changes, and the answer is False.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(k, v) for k, v in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 64 << 20)))
