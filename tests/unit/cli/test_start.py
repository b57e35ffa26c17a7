"""The entry point starts fast: what must not be imported is not, and the root help needs no module."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medperf import __version__
from medperf.cli import main as entry
from medperf.cli.runner import find_command

HEAVY = ("typer", "pydantic", "rich", "httpx2", "sqlite3", "yaml", "sqlalchemy", "fastapi", "asyncio", "ssl")


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own that says on stderr which modules it loaded."""
    code = (
        "import sys\nfrom medperf.cli.main import main\n"
        "try:\n    code = main()\nfinally:\n    sys.stderr.write('\\nMODULES ' + ' '.join(sys.modules))\nsys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )


def imported(process: subprocess.CompletedProcess[str]) -> set[str]:
    return set(process.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.parametrize("words", [("--version",), ("--help",), (), ("-h",), ("--format", "json", "--version")])
def test_the_cheap_answers_import_nothing_heavy(words: tuple[str, ...], tmp_path: Path) -> None:
    process = run(*words, HOME=str(tmp_path), MEDPERF_HOME=str(tmp_path / "home"))
    assert process.returncode == 0
    assert imported(process).isdisjoint({*HEAVY, "typing", "inspect", "dataclasses", "json", "medperf.cli.runner"})
    assert list(tmp_path.iterdir()) == []


def test_only_the_noun_asked_for_is_imported() -> None:
    process = run("mlcube", "submit", "--help")
    assert process.returncode == 0
    nouns = {f"medperf.cli.{entry.module}" for entry in entry.COMMANDS}
    names = imported(process)
    assert names & nouns == {"medperf.cli.mlcube"}
    assert names.isdisjoint({"pydantic", "rich", "httpx2", "sqlite3", "yaml", "medperf.wire.models"})


def test_version() -> None:
    process = run("--version")
    assert process.stdout == f"medperf {__version__}\n"


def test_the_root_table_agrees_with_the_modules() -> None:
    for line in entry.COMMANDS:
        command = find_command(line.name)
        assert command.name == line.name
        assert command.help.split("\n")[0].startswith(line.summary.removesuffix("."))
    nouns = {
        path.stem
        for path in Path(entry.__file__).parent.glob("*.py")
        if "_" not in path.stem.strip("_")  # server_audit: a noun within the noun server
        and hasattr(importlib.import_module(f"medperf.cli.{path.stem}"), "app")
    }
    assert nouns == {line.module for line in entry.COMMANDS}
    for module in ("account", "status"):
        names = {command.name for command in importlib.import_module(f"medperf.cli.{module}").app.registered_commands}
        assert names == {line.name for line in entry.COMMANDS if line.module == module}


def test_the_root_help_names_every_command_and_fits() -> None:
    text = entry.root_help()
    assert all(f"  {line.name} " in text for line in entry.COMMANDS)
    assert max(map(len, text.splitlines())) <= 100
    assert "Example:" in text


def test_a_reader_that_has_gone_is_no_fault() -> None:
    code = "import sys; from medperf.cli.main import main; sys.exit(main(['--help']))"
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("word", ["bash", "zsh", "fish"])
def test_completion_knows_the_tree_but_only_when_a_shell_asks(word: str) -> None:
    code = "import sys; from medperf.cli.main import main; sys.exit(main())"
    asked = {
        "_MEDPERF_COMPLETE": f"complete_{word}",
        "COMP_WORDS": "medperf mlcube ",
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": "medperf mlcube ",
    }
    if word == "fish":
        asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **asked}
    )
    assert process.returncode == 0
    assert "package" in process.stdout


def test_listing_imports_nothing_of_submitting(tmp_path: Path) -> None:
    process = run("mlcube", "ls", HOME=str(tmp_path), MEDPERF_HOME=str(tmp_path / "home"))
    assert process.returncode == 1, "nobody is logged in"
    names = imported(process)
    assert "medperf.flows.mlcubes" in names
    others = {f"medperf.flows.{name}" for name in ("benchmarks", "compatibility", "cubes", "packaging", "steps")}
    assert names.isdisjoint({*others, "medperf.domain.manifests", "yaml", "rich", "sqlite3"})
    listed = imported(run("benchmark", "ls", HOME=str(tmp_path), MEDPERF_HOME=str(tmp_path / "home")))
    assert "medperf.flows.benchmarks" in listed
    assert listed.isdisjoint({*others - {"medperf.flows.benchmarks"}, "medperf.domain.manifests", "yaml"})


@pytest.mark.parametrize("words", [("--version",), ("status",), ("profile", "ls")])
def test_a_current_folder_that_was_removed_is_no_fault(tmp_path: Path, words: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd())\nfrom medperf.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    environ = {**os.environ, "HOME": str(tmp_path), "MEDPERF_HOME": str(tmp_path / "home")}
    process = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=gone, env=environ, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["profile", "ls"]])
def test_the_program_ends_at_once_and_loses_nothing(words: list[str], tmp_path: Path) -> None:
    environ = {**os.environ, "MEDPERF_HOME": str(tmp_path / "home")}
    environ.pop("PYTHONUNBUFFERED", None)  # what is left in a buffer is written at the end
    program = [str(Path(sys.executable).with_name("medperf")), *words]
    piped = subprocess.run(program, env=environ, capture_output=True, text=True, check=True)
    module = subprocess.run(
        [sys.executable, "-m", "medperf", *words], env=environ, capture_output=True, text=True, check=True
    )
    assert piped.stdout == module.stdout != ""
    assert (piped.stderr, module.stderr) == ("", "")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(program, env=environ, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr
