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
from latentood.report.mlflow_ui import artifact_location, default_uri, serve, sqlite_uri, ui_command

linux = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks at processes in /proc"
)


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


@linux
def test_the_ui_answers_shows_artifacts_and_stops_by_its_process_id(tracked):
    uri, run = tracked
    port = free_port()
    code = "import sys; from latentood.report.mlflow_ui import serve as s; "
    code += "s(sys.argv[1], int(sys.argv[2]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, uri, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert wait_for(f"http://127.0.0.1:{port}/health", process) == b"OK"
        assert b"<title>MLflow</title>" in get(f"http://127.0.0.1:{port}/")
        query = f"get-artifact?path=table.txt&run_uuid={run}"
        assert b"AUROC near" in get(f"http://127.0.0.1:{port}/{query}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (server,) = map(int, children)
        assert server in group_members(server)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert is_free(port)
        assert group_members(server) == []
    finally:
        process.terminate()
        process.wait(30)


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
        lambda uri, host, port: [sys.executable, "-c", "raise SystemExit(3)"],
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


def test_the_command_listens_on_this_machine_only():
    command = ui_command("sqlite:///mlflow.db", port=5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"


def test_the_default_store_is_the_users_or_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert default_uri() == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_uri() == "http://host:5000"


def test_artifacts_of_a_relative_store_get_an_absolute_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = (tmp_path.resolve() / "mlartifacts").as_uri()
    assert artifact_location("sqlite:///mlflow.db") == expected
    assert artifact_location("postgresql://host/db") is None
