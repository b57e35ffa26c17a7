"""Names of organisations, and the rules about their managers. Pure."""

from __future__ import annotations

import unicodedata

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput

_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
#: Letters and marks that show nothing all the same (Unicode's Default_Ignorable_Code_Point beyond those categories, and blank Braille).
_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def name_key(name: str) -> str:
    """A name as it is compared: without capitals, widths, ligatures and double spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def checked_name(name: str) -> str:
    """``name`` as it is stored: single spaces, NFC.

    Raises:
        InvalidInput: ``bad_organisation_name``: nothing to see, letters that cannot be seen, or a number, which would look like an id.
    """
    if any(unicodedata.category(letter) in _INVISIBLE or letter in _BLANK for letter in name):
        raise _bad("has characters that cannot be seen")
    found = " ".join(unicodedata.normalize("NFC", name).split())
    if not any(letter.isalpha() for letter in found):
        raise _bad("has no letter")
    if len(found) > limits.NAME_LENGTH or len(name_key(found)) > 4 * limits.NAME_LENGTH:
        raise _bad(f"has more than {limits.NAME_LENGTH} characters")
    return found


def check_still_managed(other_managers: int, *, doing: str) -> None:
    """An organisation always has a manager whose account is active.

    Raises:
        Conflict: ``last_manager``.
    """
    if other_managers == 0:
        raise Conflict(
            "last_manager",
            f"The last manager of an organisation cannot {doing}.",
            "Make another member a manager first: medperf organisation set-rights --help",
        )


def _bad(why: str) -> InvalidInput:
    return InvalidInput("bad_organisation_name", f"The name of the organisation {why}.", "Choose a plain name.")
