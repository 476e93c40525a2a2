"""What long work shows while it goes on."""

import io
import re

import pytest
from rich.console import Console

from latentood.cli import terminal
from latentood.cli.terminal import human_time


@pytest.fixture
def screen(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=shown, force_terminal=True, width=160))
    return shown


def last_frame(shown, splits):
    shown = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", shown.getvalue())
    lines = [line for line in shown.splitlines() if line.strip()]
    return "\n".join(lines[-splits:])


def test_an_extraction_shows_every_split_and_all_together(screen):
    with terminal.extraction_progress() as advance:
        advance("train", 100, 400, 0)  # 100 rows were there before
        advance("far", 0, 50, 0)
        advance("train", 250, 400, 3 << 20)
        advance("far", 20, 50, 1 << 20)
    frame = last_frame(screen, 3)
    lines = dict(re.split(r" {2,}|━", line, maxsplit=1) for line in frame.splitlines())
    for name, rows, written in (
        ("train", "250/400", "3.0 MiB written"),
        ("far", "20/50", "1.0 MiB written"),
        ("to do in all", "170/350", "4.0 MiB written"),
    ):
        shown = lines[name] if name in lines else lines[f"{name} "]
        assert rows in shown
        assert written in shown


def test_a_single_split_needs_no_sum(screen):
    with terminal.extraction_progress() as advance:
        advance("train", 0, 400, 0)
        advance("train", 400, 400, 10)
    assert "to do in all" not in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (3599.6, "1 h 00 min"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations(seconds, text):
    assert human_time(seconds) == text


def test_control_characters_and_passwords_never_reach_the_terminal(capsys):
    terminal.say("id \x1b[31m\x9b2J.png\nat postgresql://me:secret@host/db")
    terminal.table(["name"], [["\x1b]0;title\x07"]])
    shown = capsys.readouterr().out
    assert not any(ord(one) < 32 or 127 <= ord(one) < 160 for one in shown.replace("\n", ""))
    assert "secret" not in shown
    assert r"\x1b[31m\x9b2J.png" in shown
