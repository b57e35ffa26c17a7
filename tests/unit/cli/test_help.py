"""Every command explains itself, and the options of the tutorials exist."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.cli.main import COMMANDS
from medperf.cli.runner import find_command


def tree() -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for entry in COMMANDS:
        command = find_command(entry.name)
        found.append(((entry.name,), command))
        found += [((entry.name, name), below) for name, below in getattr(command, "commands", {}).items()]
    return found


TREE = tree()


def options(*path: str) -> set[str]:
    command = next(command for words, command in TREE if words == path)
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("path", [words for words, _ in TREE], ids=" ".join)
def test_help_has_an_example_and_is_plain(shell: Any, path: tuple[str, ...]) -> None:
    answer = shell.run(*path, "--help")
    assert (answer.code, answer.err) == (0, "")
    head, _, examples = answer.out.partition("Example:\n")
    assert head.startswith(f"Usage: medperf {' '.join(path)}")
    assert f"medperf {path[0]}" in examples or "medperf --" in examples
    assert answer.out.isascii()
    assert "\x1b" not in answer.out
    assert "..." not in head.replace("]...", "")
    assert shell.run(*path, "-h").out == answer.out


@pytest.mark.parametrize("path", [words for words, _ in TREE], ids=" ".join)
def test_the_global_options_come_after_every_command(path: tuple[str, ...]) -> None:
    assert {"--profile", "--format", "--verbose", "-v", "--help", "-h"} <= options(*path)
    assert {"--server", "--certificate"} <= options(*path)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("login", "--username -u --password -p"),
        (
            "test run",
            (
                "--data_preparation --data-preparation -p --model -m --evaluator -e --data_path --data-path --labels_path --labels-path "
                "--demo_dataset_url --demo-dataset-url --demo_dataset_hash --demo-dataset-hash --benchmark -b --no-cache"
            ),
        ),
        (
            "mlcube submit",
            (
                "--name -n --mlcube-file -m --mlcube-hash --parameters-file -p --parameters-hash --additional-file -a --additional-hash "
                "--image-file -i --image-hash --project-file --project-hash"
            ),
        ),
        ("mlcube ls", "--mine --kind --state --name --limit"),
        ("mlcube view", "--output -o"),
        ("mlcube package", "--output"),
        ("mlcube create", "--name --output -o"),
        (
            "benchmark submit",
            (
                "--name -n --description -d --docs-url -u --demo-url --demo-hash --data-preparation-mlcube -p --reference-model-mlcube -m "
                "--evaluator-mlcube -e --metrics-contract --no-cache --from"
            ),
        ),
        ("benchmark ls", "--mine"),
        ("benchmark reject", "--reason"),
        ("asset upload", "--name"),
        ("asset ls", "--mine"),
        ("user add", "--password -p --email --admin"),
        ("mlcube submit", "--from"),
        ("mlcube associate", "--benchmark -b --model -m --from --report --yes"),
        (
            "dataset create",
            "--benchmark -b --data_prep -p --data_path -d --labels_path -l --name --description --location --join",
        ),
        ("dataset submit", "--data_uid -d --yes -y"),
        ("dataset associate", "--benchmark -b --data_uid -d --yes -y"),
        ("dataset ls", "--mine --local"),
        ("dataset check", "--full"),
        ("dataset withdraw", "--delete"),
        ("egress ls", "--kind --limit"),
        ("server init", "--data --development"),
        ("server start", "--data --host --port --cert --key --http --behind-proxy --workers --development"),
        ("server reset", "--data --yes"),
        ("server seed", "--demo --server --cert --username --password"),
        ("tutorial setup", "--folder --force"),
    ],
)
def test_the_options_of_the_tutorials_exist(path: str, wanted: str) -> None:
    assert set(wanted.split()) <= options(*path.split())


def test_a_noun_alone_shows_its_help(shell: Any) -> None:
    answer = shell.run("mlcube")
    assert answer.code == 0
    assert answer.out == shell.run("mlcube", "--help").out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["mlcub", "ls"], "medperf mlcube"),
        (["mlcube", "list"], "'ls'"),
        (["mlcube", "ls", "--mien"], "--mine"),
        (["benchmark", "view"], "medperf benchmark view --help"),
        (["benchmark", "view", "one"], "medperf benchmark view --help"),
        (
            ["benchmark", "view", "one"],
            "'one' is not a whole number; ids are numbers.\nWhat to do: List them with: medperf benchmark ls",
        ),
        (["benchmark", "submit", "-p", "1.5"], "medperf mlcube ls"),
        (["mlcube", "ls", "--limit", "few"], "'few' is not a whole number.\n"),
        (["mlcube", "ls", "--limit", "0"], "'0' is too small; the least is 1."),
        (["server", "start", "--port", "70000"], "'70000' is too large; the most is 65535."),
        (["mlcube", "ls", "--kind", "doctor"], "preparator"),
        (["--sever", "x", "mlcube"], "medperf --help"),
        (["--server"], "needs a value"),
        (["--format", "xml", "mlcube", "ls"], "--format json"),
        (["mlcube", "ls", "extra"], "extra"),
    ],
)
def test_a_wrong_command_line_is_answered_with_a_hint(shell: Any, words: list[str], hint: str) -> None:
    answer = shell.run(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("Error: ")
    assert "What to do: " in answer.err
    assert hint in answer.err
    assert "Input should" not in answer.err
