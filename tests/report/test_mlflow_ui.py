"""The UI answers on this machine, and is gone after it was asked to stop."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from latentood.errors import TrackingError
from latentood.report import mlflow_ui
from latentood.report.mlflow_ui import page, serve, ui_command
from latentood.report.tracking_store import sqlite_uri

linux = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks at processes in /proc"
)


COLUMNS = ("mean.auroc", "fpr95_id", "model.weights")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, seconds=5):
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read()


def wait_for(url, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended by itself"
        try:
            return get(url)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.25)
    raise AssertionError(f"nothing answers at {url}")


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def group_members(group):
    """Find the processes of a process group, zombies aside."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(pgrp) == group and state != "Z":
            members.append(int(stat.parent.name))
    return members


@pytest.fixture(scope="module")
def server(tracked):
    """The process that shows the store, and its port; the last test that uses it ends it."""
    port = free_port()
    code = "import sys; from latentood.report.mlflow_ui import serve as s; "
    code += "s(sys.argv[1], int(sys.argv[2]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tracked[0], str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_for(f"http://127.0.0.1:{port}/health", process) == b"OK"
        yield process, port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def tab(browser):
    """A tab of a real browser."""
    made = browser.new_page(viewport={"width": 1900, "height": 900})
    yield made
    made.close()


@linux
def test_the_page_that_is_printed_lists_the_detectors_best_first(tracked, comparison, server, tab):
    tab.goto(page(tracked[0], server[1]))
    cell = '[role="gridcell"]'
    cells = {name: tab.locator(f'{cell}[col-id*="{name}"]') for name in COLUMNS}
    cells["mean.auroc"].first.wait_for(timeout=60_000)
    names = [name.strip() for name in tab.locator(f'{cell} a[href*="/runs/"]').all_inner_texts()]
    ranked = [result.request for result in comparison.ranked]
    titles = [f"{comparison.title(one)} · {one.layer}" for one in ranked]
    assert names[0] == titles[0]
    assert set(names[1:3]) == set(titles[1:])  # their scores are equally good
    shown = [float(text) for text in cells["mean.auroc"].all_inner_texts()[:3]]
    assert shown == [result.mean_auroc for result in comparison.ranked]
    assert cells["fpr95_id"].first.is_visible()
    assert cells["model.weights"].first.inner_text() == "a1a1a1a1"


@linux
def test_the_ui_answers_shows_artifacts_and_stops_by_its_process_id(tracked, server):
    process, port = server
    assert b"<title>MLflow</title>" in get(f"http://127.0.0.1:{port}/")
    query = f"get-artifact?path=table.txt&run_uuid={tracked[1]}"
    assert b"AUROC near" in get(f"http://127.0.0.1:{port}/{query}")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (child,) = map(int, children)
    assert child in group_members(child)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert is_free(port)
    assert group_members(child) == []


# Like MLflow's, a server with a process of its own.
SLEEPING_SERVER = """
import os, pathlib, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
subprocess.Popen(sleep)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(60)
"""


@linux
def test_being_asked_to_end_also_ends_the_server_and_what_it_started(monkeypatch, tmp_path):
    note = tmp_path / "pid"
    command = [sys.executable, "-c", SLEEPING_SERVER, str(note)]
    monkeypatch.setattr(mlflow_ui, "_check_store", lambda uri: None)
    monkeypatch.setattr(mlflow_ui, "ui_command", lambda *_: command)
    members = []

    def end_once_it_runs():
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        members.extend(group_members(int(note.read_text())))
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=end_once_it_runs).start()
    assert serve("sqlite:///x.db", free_port()) == 0
    assert len(members) == 2
    deadline = time.monotonic() + 5
    while group_members(int(note.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group_members(int(note.read_text())) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_ends_by_itself_is_an_error(monkeypatch):
    monkeypatch.setattr(mlflow_ui, "_check_store", lambda uri: None)
    monkeypatch.setattr(
        mlflow_ui,
        "ui_command",
        lambda host, port: [sys.executable, "-c", "raise SystemExit(3)"],
    )
    with pytest.raises(TrackingError, match="should run until Ctrl-C, but ended with status 3"):
        serve("sqlite:///x.db", free_port())


def test_a_port_in_use_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = (
            rf"^ui: must be able to listen on 127\.0\.0\.1:{port}, but cannot \(.*another --port"
        )
        with pytest.raises(TrackingError, match=message):
            serve(sqlite_uri(tmp_path), port)


def test_a_store_that_is_not_there_is_named(tmp_path):
    message = (
        r"^ui: needs a tracking store, but there is no .*mlflow\.db; run latentood score first"
    )
    with pytest.raises(TrackingError, match=message):
        serve(sqlite_uri(tmp_path), free_port())
    assert list(tmp_path.iterdir()) == []


def test_a_server_needs_no_server():
    with pytest.raises(TrackingError, match="https://host is a server; open it in a browser"):
        serve("https://host", free_port())


def test_no_password_is_shown_or_stands_on_a_command_line_that_others_can_read(monkeypatch):
    with pytest.raises(TrackingError, match=r"but https://\*\*\*@host is a server"):
        page("https://me:secret@host")
    started = {}

    class Server:
        pid = 0

        def __init__(self, command, env, **_):
            started.update(command=command, env=env)

        def wait(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(mlflow_ui.subprocess, "Popen", Server)
    monkeypatch.setattr(mlflow_ui, "_stop", lambda server: None)
    uri = "postgresql://me:secret@host/db"
    assert serve(uri, free_port()) == 0
    assert "secret" not in " ".join(started["command"])
    assert started["env"]["MLFLOW_BACKEND_STORE_URI"] == uri


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        ("7", "experiments/7/runs?workflowType=machine_learning&viewStateShareKey=latentood"),
        (None, "experiments?workflowType=machine_learning"),
    ],
)
def test_the_page_is_that_of_the_newest_experiment(newest, expected, tmp_path, monkeypatch):
    (tmp_path / "mlflow.db").write_bytes(b"")
    monkeypatch.setattr(mlflow_ui, "newest_experiment", lambda uri: newest)
    assert page(sqlite_uri(tmp_path), 5001) == f"http://127.0.0.1:5001/#/{expected}"


def test_the_page_opens_in_the_browser_once_the_server_answers(monkeypatch):
    opened, port, done = [], free_port(), threading.Event()
    code = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1]))).accept()"
    command = [sys.executable, "-c", code, str(port)]
    monkeypatch.setattr(mlflow_ui, "_SECONDS_BETWEEN_TRIES", 0.01)
    monkeypatch.setattr(mlflow_ui, "_check_store", lambda uri: None)
    monkeypatch.setattr(mlflow_ui, "ui_command", lambda *_: command)
    monkeypatch.setattr(
        mlflow_ui.webbrowser, "open", lambda address: (opened.append(address), done.set())
    )
    with pytest.raises(TrackingError, match="ended with status 0"):  # after its first visitor
        serve("sqlite:///x.db", port, address="http://the-page")
    assert done.wait(10)
    assert opened == ["http://the-page"]


def test_the_command_listens_on_this_machine_only():
    command = ui_command(port=5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
