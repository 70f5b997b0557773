"""Stands between a process and its system calls that write to a folder: counts them, lets one fail, or kills before it.

Linux offers this to everybody (seccomp_unotify(2)): a filter in the process asks a supervisor before each such call. So
the writers in C++ and Rust are seen too, and nothing in the process is replaced.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

# Numbers of x86-64 → where each call names its file: by descriptor, or as (index of the folder's descriptor or None,
# index of the path). A rename has two files; it counts if one of them lies in the folder.
_BY_DESCRIPTOR = {
    "write": 1,
    "pwrite64": 18,
    "writev": 20,
    "fsync": 74,
    "fdatasync": 75,
    "ftruncate": 77,
    "fallocate": 285,
    "pwritev": 296,
    "pwritev2": 328,
}
_BY_PATH: dict[str, tuple[int, tuple[tuple[int | None, int], ...]]] = {
    "open": (2, ((None, 0),)),
    "truncate": (76, ((None, 0),)),
    "rename": (82, ((None, 0), (None, 1))),
    "mkdir": (83, ((None, 0),)),
    "rmdir": (84, ((None, 0),)),
    "creat": (85, ((None, 0),)),
    "link": (86, ((None, 0), (None, 1))),
    "unlink": (87, ((None, 0),)),
    "symlink": (88, ((None, 1),)),
    "openat": (257, ((0, 1),)),
    "mkdirat": (258, ((0, 1),)),
    "unlinkat": (263, ((0, 1),)),
    "renameat": (264, ((0, 1), (2, 3))),
    "linkat": (265, ((0, 1), (2, 3))),
    "symlinkat": (266, ((1, 2),)),
    "renameat2": (316, ((0, 1), (2, 3))),
}
_COPIES = {"sendfile": (40, 0), "copy_file_range": (326, 2)}  # the index of the descriptor that is written to
_NUMBERS = {number: name for name, number in _BY_DESCRIPTOR.items()}
_NUMBERS |= {number: name for name, (number, _) in (*_BY_PATH.items(), *_COPIES.items())}
GROWING = frozenset({*_BY_DESCRIPTOR, *_COPIES, "open", "openat", "creat", "mkdir", "mkdirat", "symlink", "symlinkat"})
"""Calls that a full disk refuses; a sync too, where the disk gets its blocks only then."""

_ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
_REQUEST = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif: id, pid, flags, nr, arch, instruction, arguments
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_OPENS_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_HERE = -100  # AT_FDCWD


@dataclass(frozen=True)
class Call:
    """A system call that would change the folder: its name, and its file relative to the folder."""

    name: str
    file: str

    def __str__(self) -> str:
        return f"{self.name} {self.file}"


@dataclass(frozen=True)
class Request:
    """A call that waits for an answer."""

    id: int
    thread: int
    call: Call | None


def is_offered() -> bool:
    """Whether this machine can do it: Linux on x86-64, where a container does not forbid it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    try:
        return "user_notif" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="ascii")
    except OSError:
        return False


def ask_before_calls() -> int:
    """Let this process, which has one thread, ask from now on; returns the descriptor at which it asks.

    Raises:
        OSError: the kernel refuses.
    """
    equal, load, give = 0x15, 0x20, 0x06  # BPF_JMP | BPF_JEQ, BPF_LD | BPF_W | BPF_ABS, BPF_RET
    numbers = sorted(_NUMBERS)
    program = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURE), (give, 0, 0, _ALLOW), (load, 0, 0, 0)]
    program += [(equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    program += [(give, 0, 0, _ALLOW), (give, 0, 0, _ASK)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    filter_program = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, without which only root may set a filter
    listener = libc.syscall(317, 1, 8, filter_program)  # seccomp, SET_MODE_FILTER, FLAG_NEW_LISTENER
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def receive(listener: int, folder: str) -> Request | None:
    """Take the next request; None if its process has died meanwhile. `call` is None for files outside `folder`."""
    buffer = bytearray(_REQUEST.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer, True)
        own, thread, _, number, _, _, *arguments = _REQUEST.unpack(buffer)
        return Request(own, thread, _call(thread, _NUMBERS[number], arguments, folder))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR, errno.ESRCH, errno.EIO):
            return None
        raise


def answer(listener: int, request: Request, error: int = 0) -> None:
    """Let a call happen, or fail with an error number."""
    response = struct.pack("=QqiI", request.id, 0, -error, 0 if error else _CONTINUE)
    try:
        fcntl.ioctl(listener, _ANSWER, bytearray(response), True)
    except OSError as failure:
        if failure.errno != errno.ENOENT:  # its process was killed
            raise


def _call(thread: int, name: str, arguments: list[int], folder: str) -> Call | None:
    if name in ("open", "openat") and not arguments[1 if name == "open" else 2] & _OPENS_TO_WRITE:
        return None
    if name in _BY_PATH:
        files = [_path(thread, arguments, *where) for where in _BY_PATH[name][1]]
    else:
        index = _COPIES[name][1] if name in _COPIES else 0
        files = [os.readlink(f"/proc/{thread}/fd/{arguments[index]}")]
    inside = [os.path.relpath(file, folder) for file in files if f"{file}/".startswith(f"{folder}/")]
    return Call(name, " → ".join(inside)) if inside else None


def _path(thread: int, arguments: list[int], folder_at: int | None, path_at: int) -> str:
    folder = _HERE if folder_at is None else ctypes.c_int(arguments[folder_at] & 0xFFFFFFFF).value
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        path = b""
        while b"\0" not in path and len(path) < 8192:
            start = arguments[path_at] + len(path)
            memory.seek(start)
            path += memory.read(4096 - start % 4096)  # to the end of its page: the next one may not exist
    base = os.readlink(f"/proc/{thread}/cwd" if folder == _HERE else f"/proc/{thread}/fd/{folder}")
    return os.path.normpath(os.path.join(base, os.fsdecode(path.split(b"\0", 1)[0])))
