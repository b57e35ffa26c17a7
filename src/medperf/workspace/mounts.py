"""Is a folder on a network file system? SQLite's locks and its shared memory do not work on those."""

from __future__ import annotations

from pathlib import Path

from medperf.domain.errors import MedPerfError

_NETWORK = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "pvfs2",
        "orangefs",
        "glusterfs",
    }
    | {"ocfs2", "gfs2", "davfs2"}
    | {
        f"fuse.{name}"
        for name in (
            "sshfs",
            "glusterfs",
            "ceph",
            "ceph-fuse",
            "davfs",
            "davfs2",
            "s3fs",
            "rclone",
            "gcsfuse",
            "goofys",
        )
    }
    | {
        f"fuse.{name}"
        for name in (
            "mount-s3",
            "curlftpfs",
            "smbnetfs",
            "gvfsd-fuse",
            "juicefs",
            "moosefs",
            "mfs",
            "lizardfs",
            "blobfuse",
        )
    }
    | {f"fuse.{name}" for name in ("blobfuse2", "beegfs", "cvmfs2")}
)


def refuse_network(folder: Path) -> None:
    """Refuse a workspace that several machines might open at once.

    Raises:
        MedPerfError: ``folder`` would lie on a network file system.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return  # no Linux: nothing to tell it by
    found = file_system(folder, mounts)
    if found in _NETWORK:
        raise MedPerfError(
            "network_file_system",
            f"{folder} lies on a network file system ({found}), where the workspace's database is not safe.",
            "Set MEDPERF_HOME to a folder on a local disk, e.g.: export MEDPERF_HOME=/var/tmp/$USER/medperf",
        )


def file_system(folder: Path, mounts: str) -> str:
    """Type of the file system that holds ``folder``, e.g. ``ext4``.

    Args:
        folder: need not exist; links in it are followed as far as it does.
        mounts: text in the form of ``/proc/self/mountinfo``.
    """
    resolved = folder.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = Path(_unescape(fields[4]))
        # A later mount at the same place hides the earlier one.
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


def _unescape(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
