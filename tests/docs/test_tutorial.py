"""Our tutorial's own command blocks, in order, in real shells against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import playing
import pytest

PAGE = playing.ROOT / "docs" / "tutorials" / "benchmark_owner.md"
pytestmark = [pytest.mark.xdist_group("port-8000"), pytest.mark.timeout(1200)]


def test_every_block_of_the_tutorial_works(
    checkout: Path, port: int, home: Path, terminals: dict[str, playing.Terminal]
) -> None:
    seen = {}
    for block in playing.blocks(PAGE, languages=("bash", "console")):
        if block.text.startswith("make setup"):
            # The checkout is set up already, at the level that needs no test tools; the rest of the block is the person's.
            block = playing.Block(
                block.language, block.text.replace("make setup", "scripts/setup.sh server"), block.line
            )
        if block.terminal != "main":
            terminals[block.terminal].leave_running(block.text, until=r"listening on https://localhost:8000")
            continue
        before = terminals["main"].folder
        answer = terminals["main"].run(block.text, types=block.types)
        assert answer.code == 0, f"{PAGE.name}:{block.line}\n{block.text}\n---\n{answer.text}"
        assert terminals["main"].folder == before == checkout, f"{PAGE.name}:{block.line} leaves another folder behind"
        seen[block.text.split("\n")[0].split(" \\")[0]] = answer.text
        if block.text.startswith("medperf benchmark submit --from"):
            approved = json.loads(terminals["main"].run("medperf benchmark view 1 --format json").text)
            assert approved["approval"] == "APPROVED"
            # Step 6 names what step 5 uploaded, so nothing is uploaded twice.
            assert approved["demo"]["urls"] == ["asset:11"]
            short = json.loads(terminals["main"].run("medperf benchmark view 2 --format json").text)
            assert (short["name"], short["approval"]) == ("short_way", "PENDING")

    assert "testbenchmarkowner" in seen["medperf status"]
    assert "my-prep-cube" in seen["medperf mlcube ls --mine"]
    assert "AUC" in seen["medperf test run"]
    assert "asset 11" in seen["medperf asset upload medperf_tutorial/mock_xrv_demo_data.tar.gz"].lower()
    # The page's last block empties everything that it made.
    assert not (checkout / "medperf_tutorial").exists()
    assert not (home / ".medperf" / "localhost_8000").exists()


def test_the_box_about_another_port(checkout: Path, tmp_path: Path, terminals: dict[str, playing.Terminal]) -> None:
    """Its blocks, with a port that is free here; then the next steps of the page talk to that server."""
    plain = tmp_path / "page.md"
    plain.write_text(PAGE.read_text(encoding="utf-8").replace("\n> ", "\n").replace("\n>\n", "\n\n"), encoding="utf-8")
    port = playing.free_port()
    server, mine = (block.text.replace("8443", str(port)) for block in playing.blocks(plain, languages=("sh",)))
    terminals["server"].leave_running(server, until=f"listening on https://localhost:{port}")
    for text in (
        "source .venv/bin/activate",
        mine,
        f"cd server\npython seed.py --cert cert.crt --demo benchmark --server https://localhost:{port}\ncd ..",
        "medperf login -u testbenchmarkowner -p test",
        "medperf mlcube ls --mine",
        f"medperf mlcube ls --mine --server https://localhost:{port}",
    ):
        answer = terminals["main"].run(text)
        assert answer.code == 0, f"{text}\n---\n{answer.text}"
