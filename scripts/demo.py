"""Play the benchmark owner's tutorial on this machine, live, with everything in a temporary folder.

Usage: ``make demo`` (or ``.venv/bin/python scripts/demo.py``). ``KEEP=1`` keeps the folder. Exits with 0 when every step did what
the tutorial says, with 1 and the step that failed otherwise, with 130 after Ctrl-C. Nothing is left running in any case.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PORT = 8000
START_SECONDS = 60
# Packages of the example MLCubes stay there, so that only the first run downloads them; `make clean` removes them.
PACKAGES = Path(__file__).resolve().parents[1] / ".venv" / "medperf-cache"
CUBES = {"chexpert_prep": "my-prep-cube", "xrv_densenet": "my-modelref-cube", "metrics": "my-metrics-cube"}


class DemoFailed(Exception):
    """A step did something else than the tutorial says."""


class Interrupts:
    """SIGINT and SIGTERM as ``KeyboardInterrupt``, which can be put off for a moment and is never lost."""

    def __init__(self) -> None:
        self._holding = self._pending = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    def _arrived(self, *_: object) -> None:
        if self._holding:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """An interrupt that comes inside is raised at the end."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt


class Player:
    """Types commands: prints each as a person would see it, passes its output on as it comes, and keeps times.

    Args:
        folder: the working folder, as a checkout would be.
        environ: what the commands see.
        interrupts: who holds a Ctrl-C back while a process is being started.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.folder = folder
        self.environ = dict(environ)
        self.times: list[tuple[str, float]] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def say(self, text: str = "") -> None:
        """One line of our own."""
        print(text, flush=True)

    def type(self, command: str, *, title: str = "", refused: bool = False) -> str:
        """Run a command line and return what it printed.

        Raises:
            DemoFailed: it failed, or with ``refused`` it did not.
        """
        self.say(f"\n$ {command}")
        started = time.monotonic()
        process = self._start(command)
        assert process.stdout is not None
        lines = []
        for raw in iter(process.stdout.readline, b""):
            line = raw.decode(errors="replace")
            lines.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
        code = process.wait()
        self._forget(process)
        if (code != 0) is not refused:
            raise DemoFailed(f"exit code {code}: {command.splitlines()[0]}")
        if title:
            self.times.append((title, time.monotonic() - started))
        return "".join(lines)

    def ask(self, *words: str) -> Any:
        """A command's answer as JSON, without showing it."""
        answer = subprocess.run(
            ["medperf", *words, "--format", "json"],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if answer.returncode != 0:
            raise DemoFailed(
                f"exit code {answer.returncode}: medperf {shlex.join(words)}: {answer.stderr.decode(errors='replace')}"
            )
        return json.loads(answer.stdout)

    def leave_running(self, command: str, *, until: str) -> None:
        """Start a command that goes on, and return when its output holds ``until``; what it prints until then is shown.

        Raises:
            DemoFailed: it ended, or said nothing of the kind in time.
        """
        self.say(f"\n$ {command} &")
        process = self._start(command)
        listening, lines = threading.Event(), []

        def read() -> None:
            assert process.stdout is not None
            for raw in iter(process.stdout.readline, b""):
                line = raw.decode(errors="replace")
                lines.append(line)
                if not listening.is_set():
                    sys.stdout.write(line)
                    sys.stdout.flush()
                if until in line:
                    listening.set()
            listening.set()

        threading.Thread(target=read, daemon=True).start()
        if not listening.wait(START_SECONDS) or not any(until in line for line in lines):
            raise DemoFailed(f"it did not start: {command}")

    def stop(self) -> None:
        """Ctrl-C to everything that still runs, harder if that does not help."""
        for number, patience in ((signal.SIGINT, 30), (signal.SIGKILL, 30)):
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            self._running = [process for process in self._running if process.poll() is None]

    def _start(self, command: str) -> subprocess.Popen[bytes]:
        # A Ctrl-C between the start of a process and the note of it would leave the process behind.
        with self._interrupts.held():
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.append(process)
        return process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        process.stdout.close()
        self._running.remove(process)


def choose_port() -> int:
    """8000 if it is free, else any free one."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("no free port on this machine")


def surroundings(folder: Path) -> dict[str, str]:
    """The commands' environment: this checkout's medperf first, a home and a data folder of the demo's own, no settings of the person."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MEDPERF_") or name == "MEDPERF_WHEELHOUSE"
    }
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "MEDPERF_HOME": str(folder / "home"),
        "PYTHONUNBUFFERED": "1",
    }


def number(text: str, what: str) -> int:
    """The id in ``Created WHAT ID (name).``

    Raises:
        DemoFailed: the command did not say so.
    """
    found = re.search(rf"{what} (\d+)", text, flags=re.IGNORECASE)
    if found is None:
        raise DemoFailed(f"the answer names no id of a new {what}")
    return int(found[1])


def play(player: Player, port: int) -> dict[str, Any]:
    """All steps of the tutorial; returns what the summary shows."""
    where = "medperf_tutorial"
    elsewhere = "" if port == PORT else f" --port {port}"
    address = f"https://localhost:{port}"

    player.say("== A server of our own")
    player.type("medperf server init --development --data server", title="make the server")
    player.leave_running(f"medperf server start{elsewhere}", until="listening on")
    player.type("medperf server reset --yes", title="reset it")
    player.type(f"medperf server seed --demo benchmark --server {address} --cert server/cert.crt", title="seed it")
    if elsewhere:
        player.type(f"medperf profile set --server {address}")
    player.type("medperf login --username testbenchmarkowner --password test", title="log in")
    player.type("medperf status")

    player.say("\n== The workflow, on local folders")
    player.type("medperf tutorial setup benchmark", title="set the tutorial up")
    test = (
        "medperf test run \\\n"
        f"    --data_preparation {where}/chexpert_prep/mlcube/mlcube.yaml \\\n"
        f"    --model {where}/xrv_densenet/mlcube/mlcube.yaml \\\n"
        f"    --evaluator {where}/metrics/mlcube/mlcube.yaml \\\n"
        f"    --data_path {where}/mock_chexpert/images \\\n"
        f"    --labels_path {where}/mock_chexpert/labels"
    )
    player.type(test, title="test the workflow")
    player.say("\nOnce more: nothing changed, so no task is run.")
    player.type(test, title="test it again")
    local_metrics = player.ask("test", "view")["metrics"]

    player.say("\n== Package and submit the MLCubes")
    ids = {}
    for folder, name in CUBES.items():
        player.type(f"medperf mlcube package {where}/{folder}/mlcube", title=f"package {folder}")
        deploy = f"{where}/{folder}/mlcube/deploy"
        additional = f" \\\n    --additional-file {deploy}/additional_files.tar.gz" if folder == "xrv_densenet" else ""
        answer = player.type(
            f"medperf mlcube submit --name {name} \\\n    --mlcube-file {deploy}/mlcube.yaml \\\n    --parameters-file {deploy}/parameters.yaml{additional}",
            title=f"submit {name}",
        )
        ids[name] = number(answer, "mlcube")
    player.type("medperf mlcube ls --mine")

    player.say("\n== The demo data")
    player.type(f"printf 'data_path: mock_chexpert/images\\nlabels_path: mock_chexpert/labels\\n' > {where}/paths.yaml")
    player.type(f"tar -C {where} -czf {where}/mock_xrv_demo_data.tar.gz mock_chexpert paths.yaml")
    asset = number(
        player.type(f"medperf asset upload {where}/mock_xrv_demo_data.tar.gz", title="host the demo data"), "asset"
    )

    player.say("\n== The benchmark")
    prep, model, evaluator = ids.values()
    answer = player.type(
        "medperf benchmark submit \\\n    --name tutorial_bmk \\\n"
        '    --description "A benchmark created following MedPerf tutorial" \\\n'
        f"    --demo-url asset:{asset} \\\n    --data-preparation-mlcube {prep} \\\n"
        f"    --reference-model-mlcube {model} \\\n    --evaluator-mlcube {evaluator}",
        title="submit the benchmark",
    )
    benchmark = number(answer, "benchmark")
    player.type("medperf benchmark ls --mine")
    player.say("\nIts owner cannot approve it:")
    player.type(f"medperf benchmark approve {benchmark}", refused=True)

    player.say("\n== An admin approves it")
    player.type("medperf login --username admin --password admin")
    player.type(f"medperf benchmark approve {benchmark}", title="approve it")
    approval = player.ask("benchmark", "view", str(benchmark))["approval"]
    if approval != "APPROVED":
        raise DemoFailed(f"the benchmark is {approval}, not APPROVED")
    registered_metrics = player.ask("test", "view")["metrics"]
    if registered_metrics != local_metrics:
        raise DemoFailed(f"the registered MLCubes measured {registered_metrics}, the local ones {local_metrics}")
    return {
        "server": address,
        "mlcubes": ids,
        "asset": asset,
        "benchmark": benchmark,
        "approval": approval,
        "metrics": registered_metrics,
    }


def summary(player: Player, made: Mapping[str, Any], seconds: float) -> None:
    """Ids, metrics and times."""
    player.say("\n== Summary")
    player.say(f"server      {made['server']}")
    for name, identity in made["mlcubes"].items():
        player.say(f"mlcube {identity:<4} {name}")
    player.say(f"asset {made['asset']:<5} mock_xrv_demo_data.tar.gz")
    player.say(f"benchmark {made['benchmark']:<1} tutorial_bmk, {made['approval']}")
    player.say("metrics")
    for key, value in made["metrics"].items():
        player.say(f"  {key:<24} {'undefined' if value is None else value}")
    player.say("seconds")
    for title, spent in player.times:
        player.say(f"  {title:<24} {spent:6.1f}")
    player.say(f"  {'total':<24} {seconds:6.1f}")


def main() -> int:
    """See the module's docstring."""
    started = time.monotonic()
    interrupts = Interrupts()
    # The real path: a link to it would show as another folder in what the commands print.
    folder = Path(tempfile.mkdtemp(prefix="medperf-demo-")).resolve()
    player = Player(folder, surroundings(folder), interrupts)
    PACKAGES.mkdir(parents=True, exist_ok=True)
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "cache").symlink_to(PACKAGES)
    code = 1
    try:
        port = choose_port()
        player.say(f"Everything is made in {folder}. Your own settings and data are not touched.")
        if port != PORT:
            player.say(f"Port {PORT} is taken by another program; this demo uses {port}.")
        made = play(player, port)
        summary(player, made, time.monotonic() - started)
        code = 0
    except KeyboardInterrupt:
        player.say("\nInterrupted. Cleaning up.")
        code = 130
    except DemoFailed as error:
        player.say(f"\nThe demo failed: {error}")
    finally:
        # A second Ctrl-C must not leave anything behind either.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        player.stop()
        if os.environ.get("KEEP") == "1":
            player.say(
                f"\nKept: {folder}\nGo on with: cd {shlex.quote(str(folder))} && export MEDPERF_HOME={shlex.quote(str(folder / 'home'))}"
            )
        else:
            shutil.rmtree(folder)
            player.say("\nCleaned up: the server is stopped and the folder is gone.")
    return code


if __name__ == "__main__":
    sys.exit(main())
