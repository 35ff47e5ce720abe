"""What a parser may use, set by itself before it sees its first document."""

import resource
from pathlib import Path

from threadloom.retrieval.parsing.syscalls import refuse_syscalls

FILES = 64


def confine(memory: int) -> None:
    """Bounds for good: so much memory more than now, few open files, no files written.

    On Linux the kernel also refuses what no parser needs (`syscalls`). Files can still be read, as far as the server may.
    """
    bound = address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    refuse_syscalls()


def address_space() -> int:
    """Bytes, on Linux; elsewhere the limit begins at nothing."""
    statistics = Path("/proc/self/statm")
    if not statistics.exists():
        return 0
    return int(statistics.read_text().split()[0]) * resource.getpagesize()


def allow_processor_time(seconds: int) -> None:
    """So much more from now on; then the kernel ends the process, even if nobody watches it any more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))


def largest_size() -> int:
    """Bytes of memory that this process had at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
