"""The pages cannot go stale: links lead somewhere, the command reference is what the commands say, files say no registry."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import playing
import pytest

ROOT = playing.ROOT
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_reference_is_fresh_and_links_resolve() -> None:
    answer = script("build_docs.py", "--check")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_files_hold_no_registry_and_no_machine_path() -> None:
    answer = script("check_files.py")
    assert answer.returncode == 0, answer.stdout


def test_check_files_finds_what_it_looks_for(tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    (copy / "check_files.py").write_bytes((ROOT / "scripts" / "check_files.py").read_bytes())
    (tmp_path / "a.txt").write_text("https://files." + "python" + "hosted.org/x\n")
    (tmp_path / "b.sh").write_text("if then\n")
    answer = subprocess.run([sys.executable, str(copy / "check_files.py")], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "a.txt:1" in answer.stdout
    assert "b.sh" in answer.stdout


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_decisions_have_their_four_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]
    assert page.name in (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_a_project_has(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500


def test_every_runtime_dependency_has_a_decision() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [
        re.match(r"[a-z0-9-]+", entry.lower())[0]
        for entry in [*project["dependencies"], *project["optional-dependencies"]["server"]]
    ]  # type: ignore[index]
    text = " ".join(page.read_text(encoding="utf-8") for page in DECISIONS).lower().replace("_", "-")
    missing = [name for name in names if name not in text and name.removesuffix("-cffi") not in text]
    assert not missing


def test_confinement_page_names_every_rule_and_limit() -> None:
    from medperf.domain.confinement import ConfinementPolicy

    text = (ROOT / "docs" / "concepts" / "confinement.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", text, flags=re.MULTILINE)[: len(ConfinementPolicy.RULES)] == list(
        ConfinementPolicy.RULES
    )


def test_metrics_contract_page_says_what_the_rules_are() -> None:
    import yaml

    from medperf.domain.metrics import check_metrics, contract_from_document, derive_contract

    text = (ROOT / "docs" / "concepts" / "metrics_contract.md").read_text(encoding="utf-8")
    first, contract, kept = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL))
    assert check_metrics(contract_from_document(contract), kept)
    assert derive_contract(first).primary == "AUC.Atelectasis"
    # The table of derived rules, row by row; an explained word turns the direction.
    derived = {
        0.91: ("number", 0, 1, "higher"),
        1.25: ("number", None, None, "none"),
        0: ("number", 0, None, "none"),
        37: ("integer", 0, None, "none"),
        -3: ("integer", None, None, "none"),
        None: ("number", None, None, "none"),
    }
    for value, expected in derived.items():
        (rule,) = derive_contract({"score": value}).rules
        assert (rule.type, rule.minimum, rule.maximum, rule.direction) == expected, value
        assert rule.decimals == (0 if rule.type == "integer" else 6)
    (sentence,) = re.findall(r'A name says "the less, the better" when (.*?)\.\n', text, flags=re.DOTALL)
    words = re.findall(r"`(\w+)`", sentence)
    assert len(words) > 10
    for word in words:
        (rule,) = derive_contract({f"mean_{word}": 0.5}).rules
        assert (rule.minimum, rule.maximum, rule.direction) == (0, None, "lower"), word
    assert derive_contract({"terror": None}).primary is None


def test_locked_requirements_cover_what_the_project_declares() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.version import Version

    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, groups = document["project"], document["dependency-groups"]
    wanted = {
        "site": project["dependencies"],
        "server": [*project["dependencies"], *project["optional-dependencies"]["server"]],
        "dev": [*project["dependencies"], *project["optional-dependencies"]["server"], *groups["dev"]],
    }
    for name, entries in wanted.items():
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        locked = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, flags=re.MULTILINE))
        assert "--index-url" not in text
        assert "://" not in text
        for entry in map(Requirement, entries):
            found = locked.get(entry.name.lower().replace("_", "-"))
            assert found is not None, f"requirements/{name}.txt lacks {entry.name}: make lock"
            assert entry.specifier.contains(Version(found)), (
                f"requirements/{name}.txt has {entry.name} {found}: make lock"
            )


def mentioned_commands() -> list[tuple[str, str]]:
    """``medperf ...`` as the pages and the messages of the program name it: (where, words)."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src" / "medperf").rglob("*.py")]
    found = []
    for file in files:
        if file.name == "cli.md" and file.parent.name == "reference":
            continue
        for words in re.findall(r"\bmedperf((?: +(?:--)?[a-z][a-z_-]+)+)", file.read_text(encoding="utf-8")):
            found.append((str(file.relative_to(ROOT)), words.strip()))
    return found


def test_every_command_that_is_named_exists() -> None:
    from medperf.cli.main import COMMANDS
    from medperf.cli.runner import find_command

    names = {entry.name for entry in COMMANDS}
    unknown = []
    for where, text in mentioned_commands():
        words = text.split()
        if words[0] not in names:  # a sentence that goes on after the program's name
            continue
        command, rest = find_command(words[0]), words[1:]
        while hasattr(command, "commands") and rest and not rest[0].startswith("--"):
            command, rest = command.commands.get(rest[0]), rest[1:]
        if command is None:
            unknown.append(f"{where}: medperf {text}")
            continue
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        unknown += [f"{where}: medperf {text}" for word in rest if word.startswith("--") and word not in options]
    assert not unknown, "\n".join(unknown)


def test_every_error_code_that_is_explained_exists() -> None:
    page = (ROOT / "docs" / "concepts" / "errors_and_exit_codes.md").read_text(encoding="utf-8")
    source = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src" / "medperf").rglob("*.py"))
    listed = [
        code
        for row in re.findall(r"^\| (`[a-z_`, ]+`) \|", page, flags=re.MULTILINE)
        for code in re.findall(r"[a-z_]+", row)
    ]
    assert len(listed) > 8
    # Codes of failed tasks are put together from the outcome's reason: task_time_limit from time-limit.
    known = [
        code
        for code in listed
        if f'"{code}"' in source or f'"{code.removeprefix("task_").replace("_", "-")}"' in source
    ]
    assert known == listed
