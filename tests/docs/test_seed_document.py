"""The project's first document, run literally: its own blocks, in order. Only its template addresses are given values, and the
annotations of its page generator (``# (1)!``) are taken away."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import playing
import pytest

DOCUMENT = Path(__file__).parent / "data" / "benchmark_owner_tutorial.md"
COMMANDS = ("cd ", "sh ", "python ", "medperf ", "rm ", "tar ")
pytestmark = [pytest.mark.xdist_group("port-8000"), pytest.mark.timeout(1200)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A web host that says nothing on standard error."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def web_host(checkout: Path) -> Iterator[str]:
    """The web host that the document takes for granted: it serves the tutorial's folder."""
    handler = functools.partial(Quiet, directory=checkout / "medperf_tutorial")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def values(host: str) -> dict[str, str]:
    """The document's template variables."""
    cubes = {"prep": "chexpert_prep", "model": "xrv_densenet", "metrics": "metrics"}
    found = {
        "demo_url": f"{host}/mock_xrv_demo_data.tar.gz",
        "model_add": f"{host}/xrv_densenet/mlcube/deploy/additional_files.tar.gz",
    }
    for name, folder in cubes.items():
        found[f"{name}_mlcube"] = f"{host}/{folder}/mlcube/deploy/mlcube.yaml"
        found[f"{name}_params"] = f"{host}/{folder}/mlcube/deploy/parameters.yaml"
    return found


def filled(text: str, variables: dict[str, str]) -> str:
    """A block as the page shows it: variables given, annotations gone."""
    text = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: variables[match[1]], text)
    return re.sub(r"[ \t]*#\s*\(\d+\)!", "", text)


def test_the_document_is_the_one_we_promised() -> None:
    texts = [block.text for block in playing.blocks(DOCUMENT, languages=("", "bash"))]
    assert sum(text.startswith(COMMANDS) for text in texts) == 15
    assert sum(text.startswith("medperf") for text in texts) == 8


def test_the_documents_own_commands_work(
    checkout: Path, port: int, home: Path, web_host: str, terminals: dict[str, playing.Terminal]
) -> None:
    variables = values(web_host)
    terminal = terminals["main"]
    # "We assume that you had set up the general testing environment": a server in another terminal.
    server = terminals["server"].leave_running(
        "medperf server start --development", until="listening on https://localhost:8000"
    )

    answers = {}
    for block in playing.blocks(DOCUMENT, languages=("", "bash")):
        text = filled(block.text, variables)
        if text.startswith("data_path:"):
            (checkout / "medperf_tutorial" / "paths.yaml").write_text(text + "\n")
            continue
        if not text.startswith(COMMANDS):
            continue
        if text.startswith("rm -fr medperf_tutorial"):
            # "press CTRL+C in the terminal where the server is running"
            check_entities(terminal, checkout)
            server.interrupt()
            assert server.end() in (0, 130), server.text
        folder = checkout / "medperf_tutorial" if text.startswith("tar") else checkout
        types = ("testbenchmarkowner", "test") if text.strip() == "medperf login" else ()
        answer = terminal.run(text, types=types, folder=folder)
        assert answer.code == 0, f"{DOCUMENT.name}:{block.line}\n{text}\n---\n{answer.text}"
        answers[f"{block.line} {text.splitlines()[0]}"] = answer.text

    submitted = [text for name, text in answers.items() if "mlcube submit" in name]
    for expected, text in zip((1, 2, 3), submitted, strict=True):
        assert re.search(rf"mlcube {expected}\b", text, flags=re.IGNORECASE), text
    (benchmark,) = (text for name, text in answers.items() if "benchmark submit" in name)
    assert re.search(r"benchmark 1\b", benchmark, flags=re.IGNORECASE), benchmark
    assert not (checkout / "medperf_tutorial").exists()
    assert not (home / ".medperf" / "localhost_8000").exists()


def check_entities(terminal: playing.Terminal, checkout: Path) -> None:
    """What the document says is there now: three users beside the admin, three MLCubes, one benchmark that waits for approval."""

    def ask(words: str) -> Any:
        answer = terminal.run(f"medperf {words} --format json", folder=checkout)
        assert answer.code == 0, answer.text
        return json.loads(answer.text)

    cubes = ask("mlcube ls --mine")["items"]
    assert [(cube["id"], cube["name"]) for cube in cubes] == [
        (1, "my-prep-cube"),
        (2, "my-modelref-cube"),
        (3, "my-metrics-cube"),
    ]
    (benchmark,) = ask("benchmark ls --mine")["items"]
    assert (benchmark["id"], benchmark["name"], benchmark["approval"]) == (1, "tutorial_bmk", "PENDING")
    assert ask("benchmark view 1")["description"] == "A benchmark created following MedPerf tutorial"
    assert ask("status")["username"] == "testbenchmarkowner"
    terminal.run("medperf login -u admin -p admin", folder=checkout)
    users = {user["username"]: user["id"] for user in ask("user ls")["items"]}
    assert users == {"admin": 1, "testbenchmarkowner": 2, "testmodelowner": 3, "testdataowner": 4}
    terminal.run("medperf login -u testbenchmarkowner -p test", folder=checkout)
