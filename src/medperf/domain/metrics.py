"""Metrics: what an evaluator may report, the contract frozen with a benchmark, and the check that both sides make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.domain.values import NAME, digits_of, is_number, leaves

CONTRACT_VERSION = 1
CASES = "cases"
_CASE_KEYS = ("evaluated", "failed", "total")

#: Words in a metric's name that say "the less, the better".
_LOWER_IS_BETTER = frozenset(
    {
        "loss",
        "error",
        "err",
        "mae",
        "mse",
        "rmse",
        "brier",
        "ece",
        "distance",
        "dist",
        "hausdorff",
        "hd",
        "hd95",
        "assd",
        "fpr",
        "fnr",
    }
)

MetricType = Literal["number", "integer", "enum"]
Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class MetricRule:
    """One metric of a contract.

    Attributes:
        key: dotted path in the evaluator's document, e.g. ``"AUC.Edema"``.
        type: a number, a whole number, or one of the declared ``values``.
        minimum, maximum: inclusive range; None = unbounded.
        decimals: most digits after the point (0 to 10).
        direction: which way is better; ``none`` for what does not rank.
        values: the declared enumeration for ``enum``.
    """

    key: str
    type: MetricType = "number"
    minimum: float | None = None
    maximum: float | None = None
    decimals: int = 6
    direction: Direction = "none"
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricsContract:
    """What a benchmark may measure, and what ranks. ``has_cases``: the reserved ``cases`` mapping is reported."""

    rules: tuple[MetricRule, ...]
    primary: str | None
    has_cases: bool
    version: int = CONTRACT_VERSION

    def as_document(self) -> dict[str, Any]:
        """JSON form; `contract_from_document` reads it back."""
        return {
            "version": self.version,
            "primary": self.primary,
            "has_cases": self.has_cases,
            "rules": [
                {
                    "key": rule.key,
                    "type": rule.type,
                    "minimum": rule.minimum,
                    "maximum": rule.maximum,
                    "decimals": rule.decimals,
                    "direction": rule.direction,
                    "values": list(rule.values),
                }
                for rule in self.rules
            ],
        }


def flatten_metrics(document: Any) -> dict[str, Any]:
    """The evaluator's nested mapping as ``{"AUC.Edema": 0.91, ...}``; the reserved ``cases`` becomes ``cases.total`` and so on.

    NaN and infinities become None (``undefined``), as does null.

    Raises:
        InvalidInput: no mapping, empty, lists, records smuggled as keys, too many or too long keys.
    """
    if not isinstance(document, dict) or not document:
        raise _bad_metrics(
            "The evaluator's metrics are no mapping with entries.",
            "Write a YAML mapping such as 'AUC: {Edema: 0.91}'.",
        )
    found: dict[str, Any] = {}
    for key, value in leaves(document, _bad_metrics, noun="metric", most=limits.METRIC_KEYS):
        if isinstance(value, dict):
            raise _bad_metrics(f"The metric {key!r} is an empty mapping.", "Leave it out or give it entries.")
        if isinstance(value, list):
            raise _bad_metrics(
                f"The metric {key!r} is a list; only numbers and declared words leave a site.",
                "Report one value per key.",
            )
        found[key] = value
    return found


def derive_contract(document: Any) -> MetricsContract:
    """The contract that a compatibility test's metrics suggest; whoever knows better writes one (``--metrics-contract``).

    A number from 0 to 1 written with a point is a rate in [0, 1]. A whole number above 1 is a count from 0; 0 and 1 could be either,
    so they only get the lower bound 0. An undefined value says nothing of its range. A name that speaks of loss, error or distance is
    better lower, another rate better higher, and nothing else ranks. The first defined metric that ranks is the primary one.

    Raises:
        InvalidInput: as `flatten_metrics`, or text values (which a contract must declare).
    """
    flat = flatten_metrics(document)
    has_cases = _check_cases(flat)
    own = {key: value for key, value in flat.items() if not (has_cases and key.startswith(CASES + "."))}
    for key, value in own.items():
        if isinstance(value, bool | str):
            raise InvalidInput(
                "bad_metrics",
                f"The metric {key!r} is {str(value)[:40]!r}; without a contract that declares words, only numbers can be reported.",
                "Let the evaluator write numbers, or declare the words in a file and give it with --metrics-contract.",
            )
    rules = tuple(_derived_rule(key, value) for key, value in own.items())
    if not rules:
        raise InvalidInput(
            "bad_metrics", "The evaluator reports no metric besides 'cases'.", "Report at least one number."
        )
    ranked = [rule.key for rule in rules if rule.direction != "none" and own[rule.key] is not None]
    return MetricsContract(rules=rules, primary=ranked[0] if ranked else None, has_cases=has_cases)


def _derived_rule(key: str, value: float | None) -> MetricRule:
    lower = any(word in _LOWER_IS_BETTER for word in re.split(r"[^a-z0-9]+", key.lower()))
    if value is None:
        return MetricRule(key=key, direction="lower" if lower else "none")
    if isinstance(value, int):
        if abs(value) <= 1:
            return MetricRule(key=key, minimum=0 if value >= 0 else None, direction="lower" if lower else "none")
        return MetricRule(key=key, type="integer", minimum=0 if value >= 0 else None, decimals=0)
    if lower:
        return MetricRule(key=key, minimum=0.0 if value >= 0 else None, direction="lower")
    if 0.0 <= value <= 1.0:
        return MetricRule(key=key, minimum=0.0, maximum=1.0, direction="higher")
    return MetricRule(key=key)


def check_metrics(contract: MetricsContract, document: Any) -> dict[str, Any]:
    """Check metrics against a contract and return them flat, undefined as None.

    Raises:
        InvalidInput: a key too many or missing, a wrong type, out of range, too many digits, counts that do not add up.
    """
    flat = flatten_metrics(document)
    if contract.has_cases and not _check_cases(flat):
        raise _broken("the reserved mapping 'cases' (evaluated, failed, total) is missing")
    if not contract.has_cases and any(key.split(".")[0] == CASES for key in flat):
        raise _broken("'cases' is reported, which the contract does not name")
    own = {key: value for key, value in flat.items() if not (contract.has_cases and key.startswith(CASES + "."))}
    rules = {rule.key: rule for rule in contract.rules}
    extra = sorted(set(own) - set(rules))
    missing = sorted(set(rules) - set(own))
    if extra:
        raise _broken(f"{extra[0]!r} is not a metric of this benchmark")
    if missing:
        raise _broken(f"{missing[0]!r} is missing")
    for key, value in own.items():
        _check_value(rules[key], value)
    return flat


def contract_from_document(document: Mapping[str, Any]) -> MetricsContract:
    """Read a contract back.

    Raises:
        InvalidInput: wrong shape, duplicate keys, a range that is empty, a primary metric that is not there.
    """
    try:
        raw_rules = document["rules"]
        rules = tuple(
            MetricRule(
                key=str(entry["key"]),
                type=entry.get("type", "number"),
                minimum=entry.get("minimum"),
                maximum=entry.get("maximum"),
                decimals=entry.get("decimals", 6),
                direction=entry.get("direction", "none"),
                values=tuple(entry.get("values", ())),
            )
            for entry in raw_rules
        )
        contract = MetricsContract(
            rules=rules, primary=document.get("primary"), has_cases=bool(document.get("has_cases", False))
        )
        version = document.get("version", CONTRACT_VERSION)
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad_contract(f"it has the wrong shape ({error})") from error
    if version != CONTRACT_VERSION:
        raise _bad_contract(f"version {version!r} is unknown here")
    _check_contract(contract)
    return contract


def _check_contract(contract: MetricsContract) -> None:
    keys = [rule.key for rule in contract.rules]
    if not keys or len(keys) > limits.METRIC_KEYS or len(set(keys)) != len(keys):
        raise _bad_contract("it has no metrics, too many, or one twice")
    if contract.primary is not None and contract.primary not in keys:
        raise _bad_contract(f"the primary metric {contract.primary!r} is not one of its metrics")
    for rule in contract.rules:
        numbers = [value for value in (rule.minimum, rule.maximum) if value is not None]
        if (
            len(rule.key) > limits.METRIC_KEY_LENGTH
            or not all(NAME.fullmatch(part) for part in rule.key.split("."))
            or rule.key.split(".")[0] == CASES
            or rule.type not in ("number", "integer", "enum")
            or rule.direction not in ("higher", "lower", "none")
            or isinstance(rule.decimals, bool)
            or not isinstance(rule.decimals, int)
            or not 0 <= rule.decimals <= limits.METRIC_DECIMALS
            or not all(is_number(value) for value in numbers)
            or (len(numbers) == 2 and numbers[0] > numbers[1])
            or any(not isinstance(value, str) or not NAME.fullmatch(value) for value in rule.values)
            or (rule.type == "enum") != bool(rule.values)
        ):
            raise _bad_contract(f"the rule for {rule.key[:60]!r} is not valid")


def _check_cases(flat: Mapping[str, Any]) -> bool:
    """Whether ``cases`` is reported, and if so whether its counts are counts and add up."""
    given = {key: value for key, value in flat.items() if key.split(".")[0] == CASES}
    if not given:
        return False
    if set(given) != {f"{CASES}.{key}" for key in _CASE_KEYS}:
        raise _broken("'cases' must be a mapping of exactly evaluated, failed and total")
    counts = [given[f"{CASES}.{key}"] for key in _CASE_KEYS]
    if (
        any(isinstance(count, bool) or not isinstance(count, int) or count < 0 for count in counts)
        or counts[0] + counts[1] != counts[2]
    ):
        raise _broken("'cases' must hold whole numbers with evaluated + failed = total")
    return True


def _check_value(rule: MetricRule, value: Any) -> None:
    if value is None:  # undefined: shown, never ranked
        return
    if rule.type == "enum":
        if value not in rule.values:
            raise _broken(f"{rule.key!r} is {str(value)[:40]!r}, not one of {', '.join(rule.values)}")
        return
    if not is_number(value) or (rule.type == "integer" and not isinstance(value, int)):
        raise _broken(
            f"{rule.key!r} is {str(value)[:40]!r}, not {'a whole number' if rule.type == 'integer' else 'a number'}"
        )
    if (rule.minimum is not None and value < rule.minimum) or (rule.maximum is not None and value > rule.maximum):
        raise _broken(f"{rule.key!r} is {value}, outside {rule.minimum} to {rule.maximum}")
    decimals = digits_of(value)[1]
    if decimals > rule.decimals:
        raise _broken(
            f"{rule.key!r} has {decimals} digits after the point; at most {rule.decimals} are allowed",
            f"Let the evaluator write round(value, {rule.decimals}).",
        )


def _bad_metrics(what: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_metrics", what, fix)


def _broken(what: str, fix: str = "Mend the evaluator, or the contract before it is frozen.") -> InvalidInput:
    return InvalidInput("metrics_contract", f"The evaluator's metrics break the contract: {what}.", fix)


def _bad_contract(what: str) -> InvalidInput:
    return InvalidInput("bad_contract", f"The metrics contract cannot be used: {what}.", "Mend the contract.")
