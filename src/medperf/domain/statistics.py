"""Statistics of a prepared dataset: what a preparator may report about a site's data, and the check that both sides make.

An honest preparator reports the same few aggregates everywhere: counts, means, minima, under names that do not depend on the data.
So the names and words of the demo data's statistics, which everybody knows, are the contract; what differs from site to site is
numbers. Names and texts that only one site has are what records are smuggled in, and are refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medperf.domain import limits
from medperf.domain.documents import load_yaml
from medperf.domain.errors import InvalidInput
from medperf.domain.values import digits_of, is_number, leaves

StatisticType = Literal["number", "flag", "word", "words"]

#: A record's number or date, or a hash, somewhere in a name.
_RECORD = re.compile(r"\d{6}|[0-9a-fA-F]{16}")
_DIGITS = re.compile(r"\d+")
_WORD_LENGTH = 64


@dataclass(frozen=True)
class StatisticRule:
    """One statistic of a contract.

    Attributes:
        key: dotted path in the preparator's document, e.g. ``"positives.Edema"``.
        type: a number (whole or not), a flag (true or false), a word, or a list of different words. Each may be undefined.
    """

    key: str
    type: StatisticType = "number"


@dataclass(frozen=True)
class StatisticsContract:
    """What the datasets of a benchmark may say about themselves. ``words``: all that a ``word`` or ``words`` can be."""

    rules: tuple[StatisticRule, ...]
    words: frozenset[str] = frozenset()


def read_statistics(data: bytes) -> dict[str, Any]:
    """What a preparator wrote, as a site takes it: numbers rounded to the digits that may leave, so that one which does not round can be used.

    Args:
        data: YAML or JSON.

    Raises:
        InvalidInput: too large (before anything is parsed), no such document, no mapping.
    """
    document = load_yaml(data, label="The preparator's statistics", max_bytes=limits.STATISTICS_BYTES, allow_nan=True)
    if not isinstance(document, dict):
        raise _no_mapping()
    rounded: dict[str, Any] = _rounded(document)
    return rounded


def derive_statistics_contract(document: Any) -> StatisticsContract:
    """The contract that the statistics of a compatibility test (those of the frozen report) make.

    A number, a flag, a word or a list of words stays one; what is undefined may become a number. Words are those that the document
    holds anywhere, as values or in names. An empty document makes a contract that allows nothing.

    Raises:
        InvalidInput: no mapping, names that look like records, texts that are no words, lists of anything but words, too much of anything.
    """
    flat = _flat(document, most=limits.STATISTIC_KEYS)
    _check_names(flat)
    rules: list[StatisticRule] = []
    words: set[str] = set()
    for key, value in flat.items():
        if isinstance(value, Mapping):
            raise _bad(f"{key!r} is an empty mapping", "Leave it out or give it entries.")
        kind = _type_of(key, value)
        rules.append(StatisticRule(key, kind))
        if kind == "number" and value is not None:
            _check_number(key, _rounded(value))
        elif kind in ("word", "words"):
            words.update([value] if kind == "word" else value)
    _check_entries(flat)
    if len(words) > limits.STATISTIC_WORDS:
        raise _bad(f"they hold more than {limits.STATISTIC_WORDS} different words", "Report numbers.")
    if words or any(rule.type == "words" for rule in rules):
        words |= {part for key in flat for part in key.split(".")}
    return StatisticsContract(tuple(rules), frozenset(words))


def check_statistics(contract: StatisticsContract, document: Any) -> dict[str, Any]:
    """Check a dataset's statistics against a contract and return them flat, in one form for every site.

    All statistics of the contract are there, in its order. What is undefined (null, NaN, an infinity) or missing is None: a site may
    lack what the demo data has. Lists are sorted. `medperf.domain.values.nested` makes the document of it that can be sent;
    checked again, that gives the same.

    Raises:
        InvalidInput: a name that the contract lacks, another type, a word that it lacks, too many digits.
    """
    flat = _flat(document, most=limits.STATISTIC_KEYS)
    rules = {rule.key: rule for rule in contract.rules}
    for key, value in flat.items():
        if key in rules and not isinstance(value, Mapping):
            _check_value(rules[key], value, contract.words)
        elif not (
            value in (None, {}) and any(name.startswith(f"{key}.") for name in rules)
        ):  # a site may have none of them
            raise _broken(f"{key[:70]!r} is not a statistic of this benchmark")
    _check_entries(flat)
    return {key: sorted(value) if isinstance(value := flat.get(key), list) else value for key in rules}


def check_plain_statistics(document: Any) -> dict[str, Any]:
    """Check the statistics of a dataset without a benchmark, where nobody declared anything: numbers only, and few. Returns them flat.

    Raises:
        InvalidInput: no mapping, texts, flags, lists, names that look like records, too many of them, too many digits.
    """
    flat = _flat(document, most=limits.STATISTIC_KEYS_ALONE)
    _check_names(flat)
    for key, value in flat.items():
        if value is not None and not is_number(value):
            raise _bad(
                f"{key!r} is {_kind_of(value)}, and without a benchmark only numbers can leave",
                "Let the preparator report numbers, or create the dataset for a benchmark, whose test declares the words.",
            )
        if value is not None:
            _check_number(key, value)
    return flat


# --------------------------------------------------------------------------------------------------------------- values


def _type_of(key: str, value: Any) -> StatisticType:
    if value is None or is_number(value):
        return "number"
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, str):
        _check_word(key, value)
        return "word"
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        for entry in value:
            _check_word(key, entry)
        _check_different(key, value)
        return "words"
    raise _bad(
        f"{key!r} is {_kind_of(value)}; lists hold words only",
        "Give each number a name, such as 'image: {width: 64, height: 64}'.",
    )


def _check_value(rule: StatisticRule, value: Any, words: frozenset[str]) -> None:
    if value is None:
        return
    expected = {
        "number": is_number(value),
        "flag": isinstance(value, bool),
        "word": isinstance(value, str),
        "words": isinstance(value, list) and all(isinstance(entry, str) for entry in value),
    }
    if not expected[rule.type]:
        raise _broken(f"{rule.key!r} is {_kind_of(value)}, not {_TYPES[rule.type]}")
    if rule.type == "number":
        _check_number(rule.key, value)
    elif rule.type in ("word", "words"):
        given = [value] if rule.type == "word" else value
        unknown = next((entry for entry in given if entry not in words), None)
        if unknown is not None:
            raise _broken(f"{rule.key!r} says {unknown[:40]!r}, a word that the statistics of the demo data lack")
        _check_different(rule.key, given)


def _check_number(key: str, value: float) -> None:
    digits, decimals = digits_of(value)
    if decimals > limits.STATISTIC_DECIMALS or digits > limits.STATISTIC_DIGITS:
        raise _bad(
            f"{key!r} has {digits} digits, {decimals} of them after the point; "
            f"at most {limits.STATISTIC_DIGITS} and {limits.STATISTIC_DECIMALS} are allowed",
            f"Let the preparator report smaller numbers, and write round(value, {limits.STATISTIC_DECIMALS}).",
        )


def _check_word(key: str, word: str) -> None:
    if not 1 <= len(word) <= _WORD_LENGTH or not word.isprintable():
        raise _bad(
            f"{key!r} holds the text {word[:40]!r}, which is no word of 1 to {_WORD_LENGTH} characters",
            "Report numbers.",
        )


def _check_different(key: str, words: Iterable[str]) -> None:
    word, times = Counter(words).most_common(1)[0] if words else ("", 0)
    if times > 1:
        raise _bad(f"{key!r} lists {word[:40]!r} {times} times", "List each word once, and count under names.")


def _check_entries(flat: Mapping[str, Any]) -> None:
    """A list is as much as its words: many of them are no way round the limit of names."""
    if sum(len(value) if isinstance(value, list) else 1 for value in flat.values()) > limits.STATISTIC_KEYS:
        raise _bad(f"they hold more than {limits.STATISTIC_KEYS} values", "Report aggregates, not cases.")


def _rounded(value: Any) -> Any:
    """With the digits that may leave. Nested no deeper than `load_yaml` allows."""
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, float) and is_number(value):
        return round(float(f"{value:.{limits.STATISTIC_DIGITS}g}"), limits.STATISTIC_DECIMALS)
    return value


# ---------------------------------------------------------------------------------------------------------------- names


def _check_names(flat: Mapping[str, Any]) -> None:
    """Names must not come from records: nothing hidden, no long numbers, not one name per case."""
    siblings: Counter[tuple[str, str]] = Counter()
    for parent, name in sorted({place for key in flat for place in _places(key)}):
        found = _RECORD.search(name)
        if found is not None:
            raise _bad(
                f"the name {name!r} holds {found.group()!r}, which looks like the number of a record",
                "Report aggregates, under names that do not depend on the data.",
            )
        if not name.isprintable():
            raise _bad(f"the name {name!r} has characters that cannot be seen", "Use letters that can.")
        pattern = _DIGITS.sub("#", name)
        siblings[parent, pattern] += 1
        if siblings[parent, pattern] > limits.STATISTIC_NUMBERED:
            raise _bad(
                f"more than {limits.STATISTIC_NUMBERED} names differ from {name!r} in digits only, like one for each case",
                "Report aggregates, not cases.",
            )


def _places(key: str) -> list[tuple[str, str]]:
    """Each part of a dotted name, with what stands before it."""
    parts = key.split(".")
    return [(".".join(parts[:index]), part) for index, part in enumerate(parts)]


# --------------------------------------------------------------------------------------------------------------- errors

_TYPES: dict[StatisticType, str] = {
    "number": "a number",
    "flag": "true or false",
    "word": "a word",
    "words": "a list of words",
}


def _flat(document: Any, *, most: int) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise _no_mapping()
    return dict(leaves(document, _refuse, noun="statistic", most=most))


def _kind_of(value: Any) -> str:
    """What a value is, without saying it: it may be a record."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "an empty mapping"
    return {str: "text", list: "a list", type(None): "undefined"}.get(
        type(value), "a number" if is_number(value) else "something else"
    )


def _no_mapping() -> InvalidInput:
    return _refuse("The preparator's statistics are no mapping.", "Write a YAML mapping such as 'cases: 120'.")


def _refuse(what: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_statistics", what, fix)


def _bad(what: str, fix: str) -> InvalidInput:
    return _refuse(f"The preparator's statistics cannot leave: {what}.", fix)


def _broken(what: str) -> InvalidInput:
    return InvalidInput(
        "statistics_contract",
        f"The preparator's statistics break the benchmark's contract: {what}.",
        "They must be those of the compatibility test, with other numbers. Mend the preparator, or its demo data before the benchmark is frozen.",
    )
