"""A seccomp filter for parsers: no network, no other programs or processes, no change of any file.

It is a list of what is refused, made for what a document could gain by taking a parser over; all else stays allowed, so that
libraries keep working. Where it cannot be set (another system or processor, an old kernel) only the limits remain.
"""

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

LOAD, EQUALS, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X32 = 0x40000000

# O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
WRITING = 0o1 | 0o2 | 0o100 | 0o1000
CLONE_THREAD = 0x10000

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Machine:
    """Numbers of system calls: those refused, and those whose flags decide (the call -> the flags' argument)."""

    architecture: int
    refused: Mapping[str, int]
    opening: Mapping[int, int]
    clone: int


# The same everywhere. glibc falls back from clone3, whose flags a filter cannot see, to clone.
COMMON = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "openat2": 437,
    "pidfd_getfd": 438,
}
CLONE3 = 435
X86_64 = Machine(
    architecture=0xC000003E,
    refused=COMMON
    | {"socket": 41, "socketpair": 53, "fork": 57, "vfork": 58, "execve": 59, "kill": 62}
    | {"truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85}
    | {"link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92}
    | {"fchown": 93, "lchown": 94, "ptrace": 101, "mknod": 133, "mount": 165, "tkill": 200}
    | {"tgkill": 234, "add_key": 248, "keyctl": 250, "mkdirat": 258, "mknodat": 259}
    | {"fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266}
    | {"fchmodat": 268, "unshare": 272, "perf_event_open": 298, "setns": 308}
    | {"process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "bpf": 321}
    | {"execveat": 322, "userfaultfd": 323},
    opening={2: 1, 257: 2},
    clone=56,
)
AARCH64 = Machine(
    architecture=0xC00000B7,
    refused=COMMON
    | {"mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37}
    | {"renameat": 38, "mount": 40, "truncate": 45, "ftruncate": 46, "fchmod": 52}
    | {"fchmodat": 53, "fchownat": 54, "fchown": 55, "unshare": 97, "ptrace": 117, "kill": 129}
    | {"tkill": 130, "tgkill": 131, "socket": 198, "socketpair": 199, "add_key": 217}
    | {"keyctl": 219, "execve": 221, "perf_event_open": 241, "setns": 268}
    | {"process_vm_readv": 270, "process_vm_writev": 271, "renameat2": 276, "bpf": 280}
    | {"execveat": 281, "userfaultfd": 282},
    opening={56: 2},
    clone=220,
)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_syscalls() -> bool:
    """For this process and its threads to come, for good. Whether it could be done."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.platform != "linux":
        return False
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions(machine))
    code = ctypes.create_string_buffer(packed, len(packed))
    program = Program(len(packed) // 8, ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0


def instructions(machine: Machine) -> Iterator[Instruction]:
    """The filter: each test either returns or passes on to the next."""
    yield (LOAD, 0, 0, ARCHITECTURE)
    yield (EQUALS, 1, 0, machine.architecture)
    yield (RETURN, 0, 0, KILL)
    yield (LOAD, 0, 0, NUMBER)
    if machine is X86_64:
        yield (AT_LEAST, 0, 1, X32)
        yield (RETURN, 0, 0, KILL)
    yield from answer(CLONE3, ABSENT)
    for number in machine.refused.values():
        yield from answer(number, REFUSE)
    for number, argument in machine.opening.items():
        yield from by_flags(number, argument, WRITING, set_means=REFUSE, unset_means=ALLOW)
    yield from by_flags(machine.clone, 0, CLONE_THREAD, set_means=ALLOW, unset_means=REFUSE)
    yield (RETURN, 0, 0, ALLOW)


def answer(number: int, result: int) -> Iterator[Instruction]:
    yield (EQUALS, 0, 1, number)
    yield (RETURN, 0, 0, result)


def by_flags(
    number: int, argument: int, flags: int, *, set_means: int, unset_means: int
) -> Iterator[Instruction]:
    """The lower half of an argument, where these processors have it first."""
    yield (EQUALS, 0, 4, number)
    yield (LOAD, 0, 0, ARGUMENTS + 8 * argument)
    yield (ANY_BIT, 0, 1, flags)
    yield (RETURN, 0, 0, set_means)
    yield (RETURN, 0, 0, unset_means)
