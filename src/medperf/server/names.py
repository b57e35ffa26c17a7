"""Names as they are searched and sorted: whatever their capitals."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa

from medperf.domain import limits

#: Folding can make three letters of one.
_KEY_LENGTH = 3 * limits.NAME_LENGTH
_LAST = "\U0010ffff"


def name_key(name: str) -> str:
    """The form of a name that is searched and sorted by."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def username_key(username: str) -> str:
    """The form of a username of which there is one, so that nobody passes for another by capitals. Usernames are ASCII."""
    return username.lower()


def name_key_column() -> sa.Column[str]:
    """``name_key`` of a table with ``name``: whoever writes the one writes the other."""
    # Compared by code points on both databases, whatever language PostgreSQL was set up in: prefixes are ranges then.
    kind = sa.String(_KEY_LENGTH).with_variant(sa.String(_KEY_LENGTH, collation="C"), "postgresql")
    return sa.Column("name_key", kind, nullable=False, server_default="")


def after_prefix(prefix: str) -> str:
    """The smallest text above all that begin with ``prefix``; for none, text above everything."""
    kept = prefix.rstrip(_LAST)
    if not kept:
        return _LAST * (_KEY_LENGTH + 1)
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
