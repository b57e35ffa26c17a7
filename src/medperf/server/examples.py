"""Examples of request bodies, for the API's description. A test sends them."""

from __future__ import annotations

from typing import Any

_DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_FILE = {"digest": _DIGEST, "size": 4, "urls": ["https://example.org/file"]}

#: Name of the model -> its examples.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "TokenCreate": [{"username": "alice", "password": "correct horse battery"}],
    "UserCreate": [{"username": "alice", "password": "correct horse battery", "email": "alice@example.org"}],
    "UserUpdate": [{"is_active": False}],
    "PasswordChange": [{"current": "correct horse battery", "new": "another horse battery"}],
    "FileRef": [_FILE],
    "UploadCreate": [{"name": "weights.tar.gz", "size": 4, "digest": _DIGEST}],
    "MLCubeUpdate": [{"is_valid": False}],
    "BenchmarkUpdate": [{"description": "Compares classifiers of chest X-rays."}],
    "Decision": [{"approval": "APPROVED", "reason": "Looked at."}],
}
