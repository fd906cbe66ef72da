"""Memory for what a pass reads all over: with pages of 4 KiB the processor would spend much of its time on
translating addresses.
"""

from __future__ import annotations

import mmap


def huge_pages(size: int) -> mmap.mmap:
    """Return `size` bytes of memory, in huge pages where the system has them. They take room only once they
    are written to.
    """
    region = _memory(size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        region.madvise(mmap.MADV_HUGEPAGE)
    return region


def _memory(size: int) -> mmap.mmap:
    """Return memory that is private to this process, where the system allows that: only private memory gets
    huge pages.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
