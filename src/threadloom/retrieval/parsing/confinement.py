"""What a parser may use, set by itself before it sees its first document."""

import os
import resource

FILES = 64


def confine(memory: int) -> None:
    """Bounds for good: memory, open files, no written files, and others go first."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)


def allow_processor_time(seconds: int) -> None:
    """So much more from now on; then the kernel ends the process, even if nobody watches it any more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.RLIM_INFINITY))
