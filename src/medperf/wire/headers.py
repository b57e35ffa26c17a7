"""Names of the headers both sides use."""

from __future__ import annotations

#: Sent by the server with every answer, and by a client with every request once it knows the server. A request that names another
#: instance is refused before anything happens, so that nothing stale reaches a server that was reset or replaced.
INSTANCE = "Medperf-Instance"
#: On every POST that creates something: the same key with the same body gives the first answer again, another body is refused.
IDEMPOTENCY = "Idempotency-Key"
#: Sent by the server with every answer: its own version, and the version of the API that it speaks.
VERSION = "Medperf-Version"
API = "Medperf-API"
API_VERSION = "v1"
API_PREFIX = f"/api/{API_VERSION}"
