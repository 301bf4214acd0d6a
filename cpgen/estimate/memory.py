"""How much memory a call may take."""

from __future__ import annotations

import os


def available_bytes() -> int:
    """Three quarters of the memory that is free now, or 4 GiB where the system does not tell."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024 * 3 // 4
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") * 3 // 4
    except (OSError, ValueError):
        return 4 << 30


def human(count: int) -> str:
    """A byte count for people."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
