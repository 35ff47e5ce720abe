"""What the driver gives up for good before any other code runs, beside what the engine took from the container."""

import ctypes
import errno
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

LOAD, EQUALS, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
ABSENT = 0x00050000 | errno.ENOSYS
NO_SUCH_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
X32 = 0x40000000

# Unix, IPv4 and IPv6. AF_VSOCK would reach a virtual machine's host, past a network namespace with no network.
FAMILIES = (1, 2, 10)
# By signals the first process cannot be reached; its limits and its share of the processor could, through any of its threads,
# which a filter cannot tell from a cell's own. A process reaches itself with 0.
OTHERS = 1
PRIO_PGRP = 1
# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
NAMESPACES = 0x7E020000

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True)
class Machine:
    """Numbers of system calls: those refused, those whose first argument decides, and those aimed at a process."""

    architecture: int
    refused: Mapping[str, int]
    socket: int
    clone: int
    setpriority: int
    aimed: Mapping[str, int]


# The same everywhere.
COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
}
# A filter cannot see clone3's flags; glibc falls back to clone.
CLONE3 = 435
X86_64 = Machine(
    architecture=0xC000003E,
    refused=COMMON
    | {"ptrace": 101, "syslog": 103, "personality": 135, "modify_ldt": 154, "pivot_root": 155}
    | {"chroot": 161, "mount": 165, "umount2": 166, "lookup_dcookie": 212, "add_key": 248}
    | {"request_key": 249, "keyctl": 250, "unshare": 272, "vmsplice": 278}
    | {"perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303}
    | {"open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310}
    | {"process_vm_writev": 311, "kcmp": 312, "bpf": 321, "userfaultfd": 323},
    socket=41,
    clone=56,
    setpriority=141,
    aimed={"sched_setparam": 142, "sched_setscheduler": 144, "sched_setaffinity": 203}
    | {"migrate_pages": 256, "move_pages": 279, "prlimit64": 302, "sched_setattr": 314},
)
AARCH64 = Machine(
    architecture=0xC00000B7,
    refused=COMMON
    | {"lookup_dcookie": 18, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51}
    | {"vmsplice": 75, "personality": 92, "unshare": 97, "syslog": 116, "ptrace": 117}
    | {"add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241}
    | {"fanotify_init": 262, "name_to_handle_at": 264, "open_by_handle_at": 265}
    | {"setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272}
    | {"bpf": 280, "userfaultfd": 282},
    socket=198,
    clone=220,
    setpriority=140,
    aimed={"sched_setparam": 118, "sched_setscheduler": 119, "sched_setaffinity": 122}
    | {"migrate_pages": 238, "move_pages": 239, "prlimit64": 261, "sched_setattr": 274},
)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}

prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = (ctypes.c_int, *4 * (ctypes.c_ulong,))


class Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def harden() -> None:
    """For this process and all that it forks. Raises OSError.

    Other processes of the same user can then not trace this one, nor open its streams, memory and environment.
    """
    set_dumpable(False)
    control(PR_SET_NO_NEW_PRIVS, 1)
    machine = MACHINES.get(platform.machine())
    if machine is None:
        sys.stderr.write(f"No system call filter for {platform.machine()}: the engine's remains.\n")
        return
    packed = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions(machine))
    code = ctypes.create_string_buffer(packed, len(packed))
    program = Program(len(packed) // 8, ctypes.addressof(code))
    control(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


def set_dumpable(dumpable: bool) -> None:
    control(PR_SET_DUMPABLE, int(dumpable))


def control(option: int, *arguments: int) -> None:
    if prctl(option, *(*arguments, 0, 0, 0)[:4]) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def instructions(machine: Machine) -> Iterator[Instruction]:
    """The filter: each test either returns or passes on to the next."""
    yield (LOAD, 0, 0, ARCHITECTURE)
    yield (EQUALS, 1, 0, machine.architecture)
    yield (RETURN, 0, 0, REFUSE)
    yield (LOAD, 0, 0, NUMBER)
    if machine is X86_64:
        yield (AT_LEAST, 0, 1, X32)
        yield (RETURN, 0, 0, REFUSE)
    yield from answer(CLONE3, ABSENT)
    for number in machine.refused.values():
        yield from answer(number, REFUSE)
    for number in machine.aimed.values():
        yield from by_argument(number, FIRST_ARGUMENT, AT_LEAST, OTHERS)
    yield from by_argument(machine.setpriority, FIRST_ARGUMENT, AT_LEAST, PRIO_PGRP)
    yield from by_argument(machine.setpriority, SECOND_ARGUMENT, AT_LEAST, OTHERS)
    yield from by_argument(machine.clone, FIRST_ARGUMENT, ANY_BIT, NAMESPACES)
    yield (EQUALS, 1, 0, machine.socket)
    yield (RETURN, 0, 0, ALLOW)
    yield (LOAD, 0, 0, FIRST_ARGUMENT)
    for family in FAMILIES:
        yield from answer(family, ALLOW)
    yield (RETURN, 0, 0, NO_SUCH_FAMILY)


def by_argument(number: int, argument: int, test: int, value: int) -> Iterator[Instruction]:
    """Refused when the argument passes the test; its lower half is what these processors have first."""
    yield (EQUALS, 0, 4, number)
    yield (LOAD, 0, 0, argument)
    yield (test, 0, 1, value)
    yield (RETURN, 0, 0, REFUSE)
    yield (LOAD, 0, 0, NUMBER)


def answer(value: int, result: int) -> Iterator[Instruction]:
    yield (EQUALS, 0, 1, value)
    yield (RETURN, 0, 0, result)
