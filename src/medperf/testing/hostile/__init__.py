"""Files that attack whoever reads them, for tests here and of engines and servers written elsewhere. Needs no pytest.

`ARCHIVES`, `GOOD_ARCHIVES` and `WHEELS` map a name to a function that makes the bytes; `YAML` and `JSON` map a name to a
`HostileDocument`. Every one must be refused with the error code that is given, except the good ones: odd, but whole.
"""

from medperf.testing.hostile.archives import ARCHIVES, GOOD_ARCHIVES, bomb
from medperf.testing.hostile.documents import JSON, YAML, HostileDocument
from medperf.testing.hostile.wheels import WHEELS

__all__ = ["ARCHIVES", "GOOD_ARCHIVES", "JSON", "WHEELS", "YAML", "HostileDocument", "bomb"]
