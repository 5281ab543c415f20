"""What the system says of this process: its memory, what it wrote, and how fast the disk is now."""

import os
import time


def resident() -> int:
    """Bytes of memory in use now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes in use since `forget_peak`."""
    with open("/proc/self/status", "rb") as file:
        found = next(line for line in file if line.startswith(b"VmHWM"))
    return int(found.split()[1]) * 1024


def forget_peak() -> None:
    """Begin `peak` anew, where the system lets us."""
    try:
        with open("/proc/self/clear_refs", "wb") as file:
            file.write(b"5")
    except OSError:
        return


def written() -> int:
    """Bytes handed to write calls so far, by every thread."""
    with open("/proc/self/io", "rb") as file:
        return int(next(line for line in file if line.startswith(b"wchar")).split()[1])


def sync_times(folder: str, times: int = 32) -> list[float]:
    """Seconds that each of some appends of 4 KiB with fdatasync takes right now: what one commit cannot go below."""
    path = os.path.join(folder, f"sync-{os.getpid()}")
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        return [_sync_time(file) for _ in range(times)]
    finally:
        os.close(file)
        os.unlink(path)


def _sync_time(file: int) -> float:
    began = time.perf_counter()
    os.write(file, bytes(4096))
    os.fdatasync(file)
    return time.perf_counter() - began


def cpu_of(pid: int) -> float:
    """Seconds of processor time that the threads of this process have had."""
    had = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as file:
            had += int(file.read().split()[0])
    return had / 1e9
