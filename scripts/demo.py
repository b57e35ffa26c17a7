"""Play the tutorials of all three roles on this machine, live, with everything in a temporary folder: from an empty server to a leaderboard.

Usage: ``make demo`` (or ``.venv/bin/python scripts/demo.py``). ``KEEP=1`` keeps the folder. Exits with 0 when every step did what
the tutorial says, with 1 and the step that failed otherwise, with 130 after Ctrl-C. Nothing is left running in any case.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo_player import DemoFailed, Interrupts, Player

PORT = 8000
# Packages of the example MLCubes stay there, so that only the first run downloads them; `make clean` removes them.
PACKAGES = Path(__file__).resolve().parents[1] / ".venv" / "medperf-cache"
CUBES = {"chexpert_prep": "my-prep-cube", "xrv_densenet": "my-modelref-cube", "metrics": "my-metrics-cube"}


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
    """All steps of the benchmark owner's tutorial; returns what the summary shows."""
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


def play_model_owner(player: Player, benchmark: int) -> dict[str, int]:
    """A second model joins the benchmark; returns its name and id."""
    folder = "model_tutorial"
    player.say("\n== A model owner")
    player.type("medperf login --username testmodelowner --password test")
    player.type(f"medperf tutorial setup model --folder {folder}")
    player.type(
        f"medperf test run -b {benchmark} -m {folder}/xrv_linear/mlcube/mlcube.yaml", title="test another model"
    )
    player.type(f"medperf mlcube package {folder}/xrv_linear/mlcube", title="package xrv_linear")
    deploy = f"{folder}/xrv_linear/mlcube/deploy"
    answer = player.type(
        f"medperf mlcube submit --name my-linear-model \\\n    --mlcube-file {deploy}/mlcube.yaml \\\n"
        f"    --parameters-file {deploy}/parameters.yaml \\\n    --additional-file {deploy}/additional_files.tar.gz",
        title="submit my-linear-model",
    )
    model = number(answer, "mlcube")
    player.say("\nIts metrics on the demo data are shown before they go to the benchmark's owner:")
    player.type(f"medperf mlcube associate -b {benchmark} -m {model}", title="ask to join", yes=1)
    player.say("\n== The benchmark's owner finds the request, and lets the model in")
    player.type("medperf login --username testbenchmarkowner --password test")
    player.type("medperf inbox")
    player.type(f"medperf association approve -b {benchmark} -m {model}", title="let the model in")
    return {"my-linear-model": model}


def play_data_owner(player: Player, benchmark: int) -> dict[str, Any]:
    """A hospital prepares its records, joins, runs both models and releases what they measured; returns what the summary shows."""
    folder = "hospital_tutorial"
    player.say("\n== A data owner")
    player.type("medperf login --username testdataowner --password test")
    player.type(f"medperf tutorial setup data --folder {folder}")
    player.type(
        f"medperf dataset create -b {benchmark} -d {folder}/hospital/images -l {folder}/hospital/labels \\\n"
        '    --name hospital-2024 --description "Frontal chest X-rays of 2024" --location "Ward 7"',
        title="prepare the records",
    )
    player.say("\nEach message is shown before it leaves the hospital:")
    dataset = number(
        player.type("medperf dataset submit -d hospital-2024", title="submit the dataset", yes=2), "dataset"
    )
    player.type(f"medperf dataset associate -b {benchmark} -d {dataset}", title="ask to join", yes=1)
    player.say("\n== The benchmark's owner lets the dataset in")
    player.type("medperf login --username testbenchmarkowner --password test")
    player.type("medperf inbox")
    player.type(f"medperf association approve -b {benchmark} -d {dataset}", title="let the dataset in")
    player.say("\n== The hospital runs both models on its own machine")
    player.type("medperf login --username testdataowner --password test")
    player.type(f"medperf run -b {benchmark} -d {dataset} --dry-run", title="plan")
    player.say("\nEach model is accepted here first, whatever the benchmark's owner thinks of it:")
    player.type(f"medperf run -b {benchmark} -d {dataset}", title="run both models", yes=8)
    player.say("\nNothing of what they measured has left yet. Now it is shown, and released:")
    player.type(f"medperf result submit -b {benchmark} -d {dataset}", title="release both results", yes=2)
    released = {
        f"{one['model']} ({one['model_name']})": f"AUC.Atelectasis {one['metrics']['AUC.Atelectasis']}"
        for one in player.ask("result", "ls", "--mine")["items"]
        if one["state"] == "released"
    }
    if len(released) != 2:
        raise DemoFailed(f"released: {released or 'nothing'}; two models were run")
    player.say("\n== Everything that left the hospital, and the leaderboard")
    player.type("medperf egress ls")
    player.type(f"medperf benchmark leaderboard {benchmark}", title="the leaderboard")
    return {"dataset": dataset, "released": released}


def summary(player: Player, made: Mapping[str, Any], seconds: float) -> None:
    """Ids, metrics and times."""
    player.say("\n== Summary")
    player.say(f"server      {made['server']}")
    for name, identity in made["mlcubes"].items():
        player.say(f"mlcube {identity:<4} {name}")
    player.say(f"asset {made['asset']:<5} mock_xrv_demo_data.tar.gz")
    player.say(f"benchmark {made['benchmark']:<1} tutorial_bmk, {made['approval']}")
    player.say(f"dataset {made['dataset']:<3} hospital-2024")
    for model, primary in made["released"].items():
        player.say(f"released    {model}: {primary}")
    player.say("metrics of the reference model on the demo data")
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
        made["mlcubes"] |= play_model_owner(player, made["benchmark"])
        made |= play_data_owner(player, made["benchmark"])
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
