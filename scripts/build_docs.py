"""Remake the command reference, the tables of permissions and of what leaves a site, and the API's description, check the links between pages, and write the pages as HTML to ``site/``.

Usage: ``python scripts/build_docs.py [--check]``. With ``--check`` nothing is written; exits with 1 if the reference is stale or
a link leads nowhere.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference" / "cli.md"
PERMISSIONS = DOCS / "reference" / "permissions.md"
API = DOCS / "reference" / "openapi.json"
LEAVES = DOCS / "concepts" / "what-leaves.md"
SITE = ROOT / "site"
STYLE = """body{font:16px/1.55 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#1c2733}
pre{background:#f4f6f8;padding:.8rem;overflow-x:auto}code{font-size:.92em}table{border-collapse:collapse}
td,th{border:1px solid #cfd8e0;padding:.3rem .6rem;text-align:left;vertical-align:top}nav{border-bottom:1px solid #cfd8e0;padding-bottom:.5rem}"""

# ------------------------------------------------------------------------------------------------------ the reference


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, groups first, in the order the help shows them."""
    from medperf.cli.main import COMMANDS
    from medperf.cli.runner import find_command

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                yield from below(child, (*path, name))

    yield ()
    for entry in COMMANDS:
        yield from below(find_command(entry.name), (entry.name,))


def help_text(words: tuple[str, ...]) -> str:
    """What ``medperf WORDS --help`` prints on a pipe of 100 columns."""
    environ = {**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "LANG": "C.UTF-8"}
    for name in ("FORCE_COLOR", "MEDPERF_PROFILE"):
        environ.pop(name, None)
    program = Path(sys.executable).parent / "medperf"
    answer = subprocess.run(
        [str(program), *words, "--help"], capture_output=True, text=True, check=True, env=environ, cwd=ROOT
    )
    return "\n".join(line.rstrip() for line in answer.stdout.strip("\n").splitlines())


def reference() -> str:
    """The whole page."""
    from concurrent.futures import ThreadPoolExecutor

    every = list(commands())
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = list(pool.map(help_text, every))
    lines = [
        "# Command reference",
        "",
        "Made from the commands' own `--help` by `make docs`. Exit codes: [errors](../concepts/errors_and_exit_codes.md).",
        "",
    ]
    for words, text in zip(every, texts, strict=True):
        lines += [
            f"{'#' * min(2 + len(words) // 2, 3)} medperf {' '.join(words)}".rstrip(),
            "",
            "```text",
            text,
            "```",
            "",
        ]
    return "\n".join(lines)


def permissions() -> str:
    """The page of who may do what: the table of rules, as the program has it."""
    from medperf.domain.permissions import RULES, WITHOUT_ROUTE, Right

    lines = [
        "# Who may do what",
        "",
        "Made from the program's own table by `make docs`. What an actor may not see is answered like what is not there.",
        "See [organisations and rights](../concepts/organisations.md).",
        "",
        "| right | allows |",
        "|---|---|",
        *(f"| `{right.value}` | {right.meaning} |" for right in Right),
        "",
        "Of one's own party one has every right. A member has at least one. An association belongs to the side that asked; an execution, its",
        "attempts and its results to the owner of the dataset.",
        "",
        "| action | what it is | who may |",
        "|---|---|---|",
    ]
    for action, rule in RULES.items():
        who = "; ".join(group.value for group in rule.may)
        never = f"; never {' or '.join(group.value for group in rule.never)}" if rule.never else ""
        later = " (no route yet)" if action in WITHOUT_ROUTE else ""
        lines.append(f"| `{action.value}` | {rule.says}{later} | {who}{never} |")
    return "\n".join(lines) + "\n"


def what_leaves() -> str:
    """The page of what leaves a site: its sections "The list" and "Every field" are the program's own list."""
    from medperf.domain.disclosure import RULES

    kinds = ["| message | what it says | who says yes |", "|---|---|---|"]
    fields = ["| message | field | what it holds |", "|---|---|---|"]
    for exit_, rule in RULES.items():
        consent = f"{rule.consent.value} (`[release] {rule.setting.value}`)" if rule.setting else rule.consent.value
        kinds.append(f"| `{exit_.value}` | {rule.says} | {consent} |")
        for field in rule.fields:
            holds = field.shape.value
            if field.words:
                holds = f"one of {', '.join(f'`{word}`' for word in sorted(field.words))}"
            elif field.length:
                holds = f"{holds}, at most {field.length:,} characters"
            fields.append(f"| `{exit_.value}` | `{field.name}` | {holds} |")
    text = LEAVES.read_text(encoding="utf-8")
    for title, table in (("The list", kinds), ("Every field", fields)):
        before, heading, after = text.partition(f"\n## {title}\n")
        if not heading:
            raise SystemExit(f"{LEAVES.relative_to(ROOT)} must have the heading {title!r}")
        following = after.find("\n## ")
        rest = after[following:] if following >= 0 else ""
        text = "\n".join([before + heading, *table, rest.lstrip("\n") and f"\n{rest.lstrip(chr(10))}"])
    return text.rstrip("\n") + "\n"


def api() -> str:
    """The API's description, as the server gives it."""
    from medperf.server.app import create_app
    from medperf.server.settings import Settings

    return json.dumps(create_app(Settings(data=ROOT)).openapi(), indent=1, ensure_ascii=False) + "\n"


# ---------------------------------------------------------------------------------------------------------- the links


def pages() -> list[Path]:
    """Every page of the project."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page get."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {anchor(title) for title in re.findall(r"^#+\s+(.*)$", text, flags=re.MULTILINE)}


def anchor(title: str) -> str:
    """A heading as the fragment of a link."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def broken_links(page: Path) -> Iterator[str]:
    """Links between pages that lead nowhere."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / unquote(name)).resolve() if name else page
        if not file.exists():
            yield f"{page.relative_to(ROOT)}: {target} leads nowhere"
        elif fragment and file.suffix == ".md" and fragment not in anchors(file):
            yield f"{page.relative_to(ROOT)}: {target} has no such heading"


# ------------------------------------------------------------------------------------------------------------ the site


def write_site() -> int:
    """Every page as HTML below ``site/``; returns how many."""
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    if SITE.exists():
        shutil.rmtree(SITE)
    found = pages()
    for page in found:
        text = page.read_text(encoding="utf-8")
        body = renderer.render(text)
        body = re.sub(
            r"<h([1-6])>(.*?)</h\1>",
            lambda match: (
                f'<h{match[1]} id="{anchor(html.unescape(re.sub("<[^>]+>", "", match[2])))}">{match[2]}</h{match[1]}>'
            ),
            body,
        )
        body = re.sub(r'href="(?![a-z]+:)([^"#]*)\.md(#[^"]*)?"', r'href="\1.html\2"', body)
        relative = page.relative_to(ROOT).with_suffix(".html")
        top = "../" * (len(relative.parts) - 1)
        title = next(iter(re.findall(r"^# (.*)$", text, flags=re.MULTILINE)), relative.stem)
        target = SITE / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
            f'<nav><a href="{top}README.html">MedPerf</a> · <a href="{top}docs/tutorials/benchmark_owner.html">Benchmark owner</a> · '
            f'<a href="{top}docs/tutorials/model_owner.html">Model owner</a> · <a href="{top}docs/tutorials/data_owner.html">Data owner</a> · '
            f'<a href="{top}docs/reference/cli.html">Commands</a> · <a href="{top}docs/decisions/README.html">Decisions</a></nav>'
            f"{body}</body></html>\n",
            encoding="utf-8",
        )
    shutil.copyfile(SITE / "README.html", SITE / "index.html")
    return len(found)


def main() -> int:
    """See the module's docstring."""
    made = {REFERENCE: reference(), PERMISSIONS: permissions(), API: api(), LEAVES: what_leaves()}
    for page, text in made.items():
        if "--check" not in sys.argv[1:]:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            print(f"{page.relative_to(ROOT)} is stale: make docs")
            return 1
    broken = [link for page in pages() for link in broken_links(page)]
    for link in broken:
        print(link)
    if broken:
        return 1
    if "--check" not in sys.argv[1:]:
        print(f"site/: {write_site()} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
