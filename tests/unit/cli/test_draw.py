from __future__ import annotations

import io
import threading

import pytest
from rich.text import Text

from medperf.cli.draw import Drawer
from medperf.domain.events import Note, Progress, StepFinished, StepStarted


def test_a_pipe_gets_one_plain_line_per_finished_step() -> None:
    stream = io.StringIO()
    with Drawer(stream) as draw:
        draw(StepStarted("prepare"))
        draw(Progress("prepare", 1, 2))
        draw(StepFinished("prepare", 0.84))
        draw(StepFinished("infer", 0.0, cached=True))
        draw(Note("Be careful.", level="warning"))
    assert stream.getvalue() == "prepare ... 0.84 s\ninfer ... already done\nWarning: Be careful.\n"


def test_verbose_also_says_what_begins() -> None:
    stream = io.StringIO()
    Drawer(stream, verbose=True)(StepStarted("prepare"))
    assert stream.getvalue() == "prepare ...\n"


def test_silence() -> None:
    stream = io.StringIO()
    with Drawer(stream, silent=True, terminal=True) as draw:
        draw(StepStarted("prepare"))
        draw(Note("x"))
    assert stream.getvalue() == ""


def live() -> tuple[Drawer, io.StringIO]:
    stream = io.StringIO()
    return Drawer(stream, terminal=True, width=100), stream


def test_a_terminal_sees_steps_move_and_keeps_the_finished_ones() -> None:
    draw, stream = live()
    with draw:
        draw(StepStarted("Downloading mlcube.yaml"))
        draw(Progress("Downloading mlcube.yaml", 1_500_000, 3_000_000))
        draw(StepFinished("Downloading mlcube.yaml", 1.5))
    plain = Text.from_ansi(stream.getvalue()).plain
    assert "\u2713 Downloading mlcube.yaml  1.50 s" in plain
    assert "\x1b" in stream.getvalue()


def test_progress_shows_bytes_or_the_unit() -> None:
    draw, stream = live()
    with draw:
        draw(Progress("a.tar.gz", 1_500_000, 3_000_000))
        with draw.paused():
            pass
        draw(Progress("cases", 3, None, unit="cases"))
    plain = Text.from_ansi(stream.getvalue()).plain
    assert "1.5 MB of 3.0 MB" in plain


def test_a_progress_without_a_step_ends_with_its_last_byte() -> None:
    draw, stream = live()
    with draw:
        draw(Progress("a.tar.gz", 10, 10))
        draw(StepStarted("next"))
        draw(StepFinished("next", 0.1))
        before = stream.getvalue()
    assert stream.getvalue() == before  # nothing was left to take away


def test_names_with_markup_or_escapes_are_text() -> None:
    draw, stream = live()
    with draw:
        draw(StepStarted("[bold]x[/bold]\x1b]0;t\x07"))
        draw(StepFinished("[bold]x[/bold]\x1b]0;t\x07", 0.1))
    assert "[bold]x[/bold]" in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()


def test_several_threads_may_emit() -> None:
    draw, stream = live()
    with draw:
        threads = [
            threading.Thread(target=lambda n=n: (draw(StepStarted(f"s{n}")), draw(StepFinished(f"s{n}", 0.1))))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    plain = Text.from_ansi(stream.getvalue()).plain
    assert all(f"\u2713 s{n}" in plain for n in range(8))


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_nobody_reads_progress() -> None:
    with Drawer(Gone()) as draw:
        draw(StepFinished("prepare", 1.0))
    with Drawer(None) as draw:
        draw(StepFinished("prepare", 1.0))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_a_check_mark(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
    with Drawer(stream, terminal=True, width=80) as draw:
        draw(StepStarted("prepare"))
        draw(StepFinished("prepare", 1.0))
    assert b"ok prepare" in raw.getvalue()
