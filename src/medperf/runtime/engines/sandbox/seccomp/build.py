"""Compile the filters: ``python -m medperf.runtime.engines.sandbox.seccomp.build`` (needs pyseccomp and libseccomp)."""

from __future__ import annotations

import errno
import struct
import tempfile
from pathlib import Path

from medperf.runtime.engines.sandbox import seccomp as rules


def compile_filter(machine: str) -> bytes:
    """The BPF program for one machine name (``x86_64``, ``aarch64``)."""
    import pyseccomp as library

    made = library.SyscallFilter(library.ALLOW)
    wanted = {"x86_64": library.Arch.X86_64, "aarch64": library.Arch.AARCH64}[machine]
    if not made.exist_arch(wanted):
        made.add_arch(wanted)
        made.remove_arch(library.system_arch())
    for name in rules.DENIED:
        made.add_rule(library.ERRNO(errno.EPERM), name)
    for name in rules.UNKNOWN:
        made.add_rule(library.ERRNO(errno.ENOSYS), name)
    for flag in rules.NAMESPACE_FLAGS:
        made.add_rule(library.ERRNO(errno.EPERM), "clone", library.Arg(0, library.MASKED_EQ, flag, flag))
    for request in rules.TERMINAL_REQUESTS:
        made.add_rule(library.ERRNO(errno.EPERM), "ioctl", library.Arg(1, library.MASKED_EQ, 0xFFFFFFFF, request))
    low, *others = sorted(rules.SOCKET_FAMILIES)
    gaps = [family for family in range(low, others[-1]) if family not in rules.SOCKET_FAMILIES]
    refuse = library.ERRNO(errno.EAFNOSUPPORT)
    made.add_rule(refuse, "socket", library.Arg(0, library.LT, low))
    made.add_rule(refuse, "socket", library.Arg(0, library.GT, others[-1]))
    for family in gaps:
        made.add_rule(refuse, "socket", library.Arg(0, library.EQ, family))
    for name, mode in rules.MODE_ARGUMENTS.items():
        for bit in rules.SETID_BITS:
            has_bit = library.Arg(mode, library.MASKED_EQ, bit, bit)
            if name in (
                "open",
                "openat",
            ):  # the mode is an argument only where a file is made; elsewhere the register holds anything
                for flag in rules.CREATING_FLAGS:
                    made.add_rule(
                        library.ERRNO(errno.EPERM), name, library.Arg(mode - 1, library.MASKED_EQ, flag, flag), has_bit
                    )
            else:
                made.add_rule(library.ERRNO(errno.EPERM), name, has_bit)
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return _newer_calls_unknown() + file.read()


def _newer_calls_unknown() -> bytes:
    """Calls numbered from `rules.FIRST_UNKNOWN` on do not exist: load the number; if below, go on; return ENOSYS.

    Numbers are the same on all machines from 424 on. Jumps of BPF are relative, so these instructions can go first.
    """
    program = ((0x20, 0, 0, 0), (0x35, 0, 1, rules.FIRST_UNKNOWN), (0x06, 0, 0, 0x00050000 | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def main() -> None:
    """Write every filter next to this file."""
    for machine in rules.MACHINES:
        Path(__file__).with_name(f"{machine}.bpf").write_bytes(compile_filter(machine))


if __name__ == "__main__":
    main()
