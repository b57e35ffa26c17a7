"""The page of what leaves a site names every message and every field of the program's list, and nothing else."""

from __future__ import annotations

import re

import playing

from medperf.domain.disclosure import RULES

PAGE = playing.ROOT / "docs" / "concepts" / "what-leaves.md"


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    text = PAGE.read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = (part for part in section if part.startswith(f"{title}\n"))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found.splitlines() if line[:2] == "| "][
        1:
    ]


def test_the_list_is_the_programs_list() -> None:
    listed = {name: (says, who) for name, says, who in rows("The list")}
    assert {name.strip("`") for name in listed} == set(RULES)
    for kind, rule in RULES.items():
        says, who = listed[f"`{kind.value}`"]
        assert says == rule.says
        assert who.startswith(rule.consent.value)
        assert (rule.setting is None) or f"`[release] {rule.setting.value}`" in who


def test_every_field_is_named() -> None:
    listed = [(kind.strip("`"), field.strip("`")) for kind, field, _ in rows("Every field")]
    assert listed == [(kind.value, name) for kind, rule in RULES.items() for name in rule.names]
