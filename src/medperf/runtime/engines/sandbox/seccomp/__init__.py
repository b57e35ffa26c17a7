"""System call filters, compiled ahead: one ``<machine>.bpf`` per architecture, made by ``build.py`` from the rules below.

The filter is a further layer below namespaces and dropped capabilities: it closes kernel interfaces that no
scientific program needs and that kernel exploits start from.
"""

from __future__ import annotations

from pathlib import Path

#: Refused with EPERM.
DENIED = (
    *(
        "acct",
        "add_key",
        "adjtimex",
        "bpf",
        "chroot",
        "clock_adjtime",
        "clock_settime",
        "delete_module",
        "fanotify_init",
    ),
    *("finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module", "io_uring_enter"),
    *("io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl"),
    *("lookup_dcookie", "mknod", "mknodat", "modify_ldt", "mount", "mount_setattr", "move_mount", "move_pages"),
    *("name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd"),
    *("pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl"),
    *("quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "swapoff"),
    *("swapon", "syslog", "sysfs", "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup", "_sysctl"),
)
#: Refused with ENOSYS, so that programs fall back: their arguments lie in memory, where a filter cannot look.
UNKNOWN = ("clone3", "openat2")
#: ``clone`` flags that make namespaces.
NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00000080)
#: ``ioctl`` requests that type into somebody's terminal.
TERMINAL_REQUESTS = (0x5412, 0x541C)
#: Allowed socket families: UNIX, INET, INET6 (all end inside the sandbox's own network).
SOCKET_FAMILIES = (1, 2, 10)
#: Set-user-id and set-group-id bits cannot be given to a file.
SETID_BITS = (0o4000, 0o2000)
#: Where each call takes a mode.
MODE_ARGUMENTS = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "creat": 1, "open": 2, "openat": 3, "mkdir": 1, "mkdirat": 2}
#: ``O_CREAT`` and ``__O_TMPFILE``.
CREATING_FLAGS = (0o100, 0o20000000)
#: ``fchmodat2`` and everything newer does not exist inside (ENOSYS), so that no call escapes a rule by being new.
FIRST_UNKNOWN = 452

MACHINES = ("x86_64", "aarch64")


def filter_path(machine: str) -> Path | None:
    """The compiled filter for ``platform.machine()``, or None where none was made."""
    return Path(__file__).with_name(f"{machine}.bpf") if machine in MACHINES else None
