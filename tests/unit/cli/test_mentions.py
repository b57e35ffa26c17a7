"""Whatever a text of ours tells a person to type exists: commands, and the options named with them or alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import medperf
from medperf.cli.main import COMMANDS
from medperf.cli.runner import find_command

SOURCE = Path(medperf.__file__).parent
#: Rooms whose texts name no other program's options.
ROOMS = ("domain", "wire", "client", "workspace", "flows", "cli", "server")
OTHERS = {
    "--generate-hashes",  # uv's, in a template's comment
    "--universal",
    "--version",  # answered by the entry point itself
    "--install-completion",
    "--show-completion",
    "--format",  # pg_dump's, too
    "--file",
    "--encoding",  # createdb's
    "--locale",
    "--template",
}
COMMAND = re.compile(
    r"(?<![\w/.'-])medperf((?: --?[a-z][\w-]*(?:[= ](?:URL|NAME|PATH|X))?)*)((?: [a-z]+(?:-[a-z]+)*){1,3})(?=\W|$)"
)
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*[a-z]")


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


TREE = {entry.name: find_command(entry.name) for entry in COMMANDS}


def options_below(command: Any) -> set[str]:
    return options_of(command).union(*map(options_below, getattr(command, "commands", {}).values()))


EVERY = set[str]().union(*map(options_below, TREE.values()))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """All strings of a module; what is put into an f-string is ``X``, and strings written side by side are one."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def faults(text: str, room: str) -> Iterator[str]:
    for match in COMMAND.finditer(text):
        noun, *verb = match[2].split()
        if noun not in TREE:
            # "medperf package" and the like are prose about the distribution, unless a command is introduced.
            if re.search(r"(with|run|Run|See|try|Try|now):? ?'?$", text[: match.start()]):
                yield f"no command: medperf {noun}"
            continue
        command = TREE[noun]
        while command is not None and hasattr(command, "commands") and verb:
            command = command.commands.get(verb.pop(0))
        if command is None:
            yield f"no command: medperf{match[2]}"
            continue
        line = re.split(r"[\n;)'\"]|, | or ", text[match.end() :])[0]
        given = {option for option in OPTION.findall(match[1] + line) if option not in OTHERS}
        if not hasattr(command, "commands"):
            yield from (f"medperf {match[2]} has no {option}" for option in sorted(given - options_of(command)))
    if room in ROOMS:
        yield from (f"nothing has {option}" for option in sorted(set(OPTION.findall(text)) - EVERY - OTHERS))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_command_and_option_in_a_text_exists(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    if parts[0] == "_examples":
        return
    found = [f"{path.name}:{line}: {fault}" for line, text in texts(path) for fault in faults(text, parts[0])]
    assert found == []


def test_the_check_itself_finds_what_is_wrong() -> None:
    assert list(faults("List them with: medperf mlcube list", "flows")) == ["no command: medperf mlcube list"]
    assert list(faults("Run: medperf mlcubes ls", "flows")) == ["no command: medperf mlcubes"]
    assert list(faults("Start it with: medperf mlcube ls --server X", "flows")) == []
    wrong = list(faults("medperf mlcube ls --demo-url x", "flows"))
    assert wrong == ["medperf  mlcube ls has no --demo-url"]
    assert list(faults("Give it with --paramters-file.", "flows")) == ["nothing has --paramters-file"]
