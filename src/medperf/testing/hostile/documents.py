"""Hostile YAML and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_KIB64, _MIB = 64 * 1024, 1024**2


@dataclass(frozen=True)
class HostileDocument:
    """Bytes that must be refused with ``code``, whatever the document is for."""

    data: bytes
    code: str


def fill(unit: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """``before``, as many units as fit, ``after``: at most ``size`` bytes."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def _laughs(levels: int) -> bytes:
    lines = [b"a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [b"a%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, levels)]
    return b"\n".join(lines)


def _many(codes: Mapping[str, Mapping[str, bytes]]) -> dict[str, HostileDocument]:
    return {name: HostileDocument(data, code) for code, found in codes.items() for name, data in found.items()}


#: All are within 64 KiB but those that are refused for their size, so they go for manifests too.
YAML: Mapping[str, HostileDocument] = _many(
    {
        "bad_yaml": {
            "alias": b"a: &x [1]\nb: *x",
            "billion laughs": _laughs(9),
            "billion laughs in keys": b"a: &a [x, x]\n? [*a, *a]\n: 1",
            "alias to itself": b"&a [*a]",
            "alias to itself in a mapping": b"&a {k: *a}",
            "alias that is not there": b"a: *nobody",
            "alias as key": b"a: &x k\n*x : 1",
            "merge key": b"a: &x {k: 1}\nb:\n  <<: *x",
            "python object": b"!!python/object/apply:os.system ['true']",
            "python name": b"a: !!python/name:os.system",
            "binary tag": b"a: !!binary aGk=",
            "set tag": b"!!set {a, b}",
            "int tag": b"a: !!int '9'",
            "empty tag": b"a: ! 5",
            "own tag": b"a: !vault x",
            "verbatim tag": b"a: !<tag:x.org,2000:y> 1",
            "tag directives": fill(b"%TAG !a! b\n", _KIB64, after=b"--- 1"),
            "key twice": b"a: 1\na: 2",
            "key twice in quotes": b"a: 1\n'a': 2",
            "key twice, long": b"%s: 1\n%s: 2" % ((b"k" * 900,) * 2),
            "key twice inside": b"a: {b: [{c: 1, c: 2}]}",
            "list as key": b"? [1]\n: 2",
            "mapping as key": b"? {a: 1}\n: 2",
            "two documents": b"a: 1\n---\nb: 2",
            "many documents": fill(b"---\n", _KIB64),
            "unbalanced": b"a: [1, 2",
            "tab": b"a:\n\t- b",
            "control character": b"a: \x07",
            "many questions": fill(b"? ", _KIB64),
            "many colons": fill(b": ", _KIB64),
            "surrogate": b'a: "\\uD800"',
            "surrogate pair": b'a: "\\uD83D\\uDE00"',
            "code point beyond": b'a: "\\U00110000"',
            "quote that is not closed": fill(b"x", _KIB64, b'a: "'),
        },
        "document_too_large": {
            "depth in flow": fill(b"[", _KIB64),
            "depth closed": b"[" * 33 + b"]" * 33,
            "depth in flow mappings": fill(b"{a: ", _KIB64),
            "depth in blocks": b"".join(b" " * level + b"a:\n" for level in range(200)),
            "depth of dashes": fill(b"- ", _KIB64),
            "more than 1 MiB": fill(b"#", _MIB + 1),
        },
        "not_a_number": {"1e400": b"a: 1.0e+400", "1e400 as in JSON": b"a: 1e+400", "-1e400": b"a: -1.0e+400"},
        "number_too_large": {
            "40 digits": b"a: " + b"9" * 40,
            "60,000 digits": b"a: " + b"1" * 60_000,
            "60,000 hexadecimal digits": b"a: 0x" + b"f" * 60_000,
            "60,000 binary digits": b"a: 0b" + b"1" * 60_000,
            "60,000 octal digits": b"a: 0" + b"7" * 60_000,
            "19 digits": b"a: -1000000000000000000",
        },
        "bad_encoding": {
            "NUL": b"a: \0",
            "NUL as an escape": b'a: "x\\0y"',
            "NUL in a key": b'"a\\0": 1',
            "Latin-1": "a: \u00e9".encode("latin-1"),
            "UTF-16": "a: 1".encode("utf-16"),
            "UTF-16 without a mark": "a: 1".encode("utf-16-le"),
            "UTF-32": "a: 1".encode("utf-32"),
            "surrogate in UTF-8": b"a: \xed\xa0\x80",
            "overlong": b"a: \xc0\xaf",
            "binary": bytes(range(256)),
        },
    }
)

#: All are within 2 MiB, the largest body, but the one that is refused for its size.
JSON: Mapping[str, HostileDocument] = _many(
    {
        "bad_json": {
            "NaN": b'{"a": NaN}',
            "Infinity": b'{"a": Infinity}',
            "-Infinity": b'{"a": -Infinity}',
            "key twice": b'{"a": 1, "a": 2}',
            "key twice inside": b'{"a": [{"b": 1, "b": 1}]}',
            "key twice by escape": b'{"a": 1, "\\u0061": 2}',
            "depth of lists": fill(b"[", 2 * _MIB),
            "depth of objects": fill(b'{"a":', 2 * _MIB),
            "cut off": b'{"a": ',
            "two documents": b"{} {}",
            "comment": b"{} // x",
            "single quotes": b"{'a': 1}",
            "trailing comma": b"[1,]",
            "leading zero": b"[01]",
            "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
            "nothing": b"",
            "line break in text": b'["a\nb"]',
        },
        "document_too_large": {
            "depth of 33": b"[" * 33 + b"]" * 33,
            "numbers": fill(b"1,", 2 * _MIB, b"[", b"1]"),
            "empty objects": fill(b"{},", 2 * _MIB, b"[", b"{}]"),
            "empty texts": fill(b'"",', 2 * _MIB, b"[", b'""]'),
            "keys": b"{" + b",".join(b'"%x":1' % number for number in range(150_000)) + b"}",
            "more than 2 MiB": fill(b" ", 2 * _MIB + 1),
        },
        "not_a_number": {
            "1e400": b'{"a": 1e400}',
            "-1e400": b"[-1e400]",
            "2 MB of exponent": fill(b"9", 2 * _MIB, b"[1e", b"]"),
        },
        "number_too_large": {"40 digits": b'{"a": ' + b"9" * 40 + b"}", "19 digits": b"[1000000000000000000]"},
        "bad_encoding": {
            "surrogate": b'{"a": "\\ud800"}',
            "surrogates the wrong way round": b'["\\ude00\\ud83d"]',
            "surrogate in a key": b'{"\\udfff": 1}',
            "NUL": b'{"a": "\\u0000"}',
            "NUL in a key": b'{"\\u0000": 1}',
            "NUL byte": b"[1]\0",
            "Latin-1": b'{"a": "\xff"}',
            "UTF-16": '{"a": 1}'.encode("utf-16"),
            "UTF-32": '{"a": 1}'.encode("utf-32"),
        },
    }
)
