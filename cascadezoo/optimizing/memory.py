"""What the C library does with memory that a network has freed.

glibc gives blocks of more than 32 MiB back to the kernel when they are freed, and the kernel clears every page of the
next one.
"""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_BLOCK, _KEPT = 2**30, 2**31 - 1  # bytes: the largest block that is kept, and of all together
_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Give back what is free now; from now on this process keeps what it frees, up to 2 GiB, for its next image.  True
    where glibc does so.

    A user's own settings of glibc's malloc, as environment variables, stay as they are.  Other C libraries have
    their own ways.
    """
    if any(name in os.environ for name in _BY_USER) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    library.malloc_trim(0)
    return bool(library.mallopt(_M_MMAP_THRESHOLD, _BLOCK) and library.mallopt(_M_TRIM_THRESHOLD, _KEPT))
