"""One large file up to a real server process and down again: seconds, and the most memory that the server ever had.

.venv/bin/python benchmarks/asset_stream.py [MiB]
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.domain.digests import Digest
from medperf.server.admin import init
from medperf.wire.models import TokenCreate

SERVER = (
    "import sys; from pathlib import Path; from medperf.server.admin import serve\n"
    "serve(Path(sys.argv[1]), port=0, http=True, ready=lambda url, development: print(url, flush=True))"
)


def peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def main() -> None:
    size = int(sys.argv[1] if len(sys.argv) > 1 else 1024) * 1024**2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        init(folder / "server", development=True)
        large = folder / "large"
        with large.open("wb") as stream:
            stream.truncate(size)
        with large.open("rb") as stream:
            digest = Digest(hashlib.file_digest(stream, "sha256").hexdigest())
        command = [sys.executable, "-c", SERVER, str(folder / "server")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            asking = MedPerfClient(Transport(url))
            token = asking.tokens.create(TokenCreate(username="admin", password="admin")).token
            asking.close()
            client = MedPerfClient(Transport(url, token=token))
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew: logging in took much
            before = peak_mib(process.pid)
            started = time.perf_counter()
            made = client.assets.upload(large, name="large", digest=digest, size=size)
            up, peak_up = time.perf_counter() - started, peak_mib(process.pid)
            started = time.perf_counter()
            with client.transport.stream(f"/assets/{made.id}/content") as response:
                came = sum(len(chunk) for chunk in response.iter_raw())
            down, peak = time.perf_counter() - started, peak_mib(process.pid)
            assert came == size
            client.close()
            process.terminate()
    mib = size / 1024**2
    print(
        f"{mib:,.0f} MiB up: {up:.1f} s ({mib / up:,.0f} MiB/s, verified), down: {down:.1f} s ({mib / down:,.0f} MiB/s)"
    )
    print(
        f"server's peak memory: {before:.0f} MiB before, {peak_up:.0f} MiB after the upload, {peak:.0f} MiB after the download"
    )


if __name__ == "__main__":
    main()
