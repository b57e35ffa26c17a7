"""What the data folder keeps of the audit trail, apart from the database: the signing key, the newest checkpoint, and a lock.

So whoever can write in the database alone can neither sign a checkpoint nor cut the end of the trail off.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medperf.domain.errors import Conflict, MedPerfError
from medperf.server.files import sweep_drafts, sync_folder, write_draft, write_whole

_SIGNED = b"medperf audit checkpoint signature v1\n"
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Head:
    """The newest checkpoint that this data folder has seen.

    Attributes:
        keys: further public keys whose checkpoints an admin accepted, when the trail came here with the database.
    """

    instance_id: str
    checkpoint: int
    last_event: int
    hash: str
    sealed_at: str
    keys: tuple[str, ...] = ()
    version: int = 1


class SigningKey:
    """An Ed25519 key."""

    def __init__(self, private: Any) -> None:
        self._private = private
        self.public: str = private.public_key().public_bytes_raw().hex()

    def sign(self, checkpoint_hash: str) -> str:
        """The signature of a checkpoint, hexadecimal."""
        signature: bytes = self._private.sign(_SIGNED + checkpoint_hash.encode())
        return signature.hex()


def is_signed(checkpoint_hash: str, signature: str, key: str) -> bool:
    """Whether the signature is this key's."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(
            bytes.fromhex(signature), _SIGNED + checkpoint_hash.encode()
        )
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


class AuditFolder:
    """The audit trail's files in a server's data folder."""

    def __init__(self, data: Path) -> None:
        self.key_file = data / "audit.key"
        self.head_file = data / "audit_head.json"
        self._lock_file = data / "audit.lock"

    def key(self) -> SigningKey | None:
        """The signing key, None where nothing was ever sealed.

        Raises:
            MedPerfError: ``bad_audit_key``.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            pem = self.key_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            private = load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise MedPerfError("bad_audit_key", f"{self.key_file} is no Ed25519 key.", "Restore it from a copy.")
        return SigningKey(private)

    def make_key(self) -> SigningKey:
        """The signing key, made if there is none. Of two that make one at once, both get the same."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        sweep_drafts(self.key_file)
        found = self.key()
        if found is not None:
            return found
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        written = write_draft(self.key_file, pem)
        with suppress(FileExistsError):
            os.link(written, self.key_file)
        written.unlink()
        sync_folder(self.key_file.parent)
        made = self.key()
        assert made is not None
        return made

    def head(self) -> Head | None:
        """The newest checkpoint seen here, None where nothing was ever sealed.

        Raises:
            MedPerfError: ``bad_audit_head``.
        """
        try:
            text = self.head_file.read_bytes()
        except FileNotFoundError:
            return None
        try:
            found = json.loads(text)
            return Head(**{**found, "keys": tuple(found["keys"])})
        except (ValueError, TypeError, KeyError) as error:
            raise MedPerfError(
                "bad_audit_head",
                f"{self.head_file} cannot be read.",
                "Restore it from a copy. If there is none, move it away and run: medperf server audit accept",
            ) from error

    def set_head(self, head: Head) -> None:
        """Remember a checkpoint: the whole file or none of it, on the disk."""
        write_whole(self.head_file, json.dumps(asdict(head), indent=1).encode() + b"\n")

    def forget(self) -> None:
        """The trail has ended: the server was reset. The key stays."""
        self.head_file.unlink(missing_ok=True)

    @asynccontextmanager
    async def sealing(self, *, wait_seconds: float) -> AsyncIterator[bool]:
        """Hold the lock of sealing: one at a time among all processes that use this folder. Yields whether it was got.

        The lock belongs to the open file, so it goes with the process, however that ends.
        """
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            got = _lock(descriptor)
            for _ in range(int(wait_seconds / _LOOK_SECONDS)):
                if got:
                    break
                await asyncio.sleep(_LOOK_SECONDS)
                got = _lock(descriptor)
            yield got
        finally:
            os.close(descriptor)

    @contextmanager
    def held(self) -> Iterator[None]:
        """As `sealing`, for who has nothing else to do: waits for its turn."""
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def busy() -> Conflict:
    """Another process has been sealing for too long."""
    return Conflict("sealing_elsewhere", "Another process is sealing the audit trail.", "Try again in a moment.")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
