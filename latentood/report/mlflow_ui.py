"""The MLflow UI, which shows the runs of a tracking store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread

from latentood.errors import TrackingError
from latentood.report.runs import VIEW
from latentood.report.tracking import newest_experiment
from latentood.report.tracking_store import NO_TELEMETRY, sqlite_file

HOST = "127.0.0.1"
_SECONDS_TO_STOP = 10
_SECONDS_BETWEEN_TRIES = 0.25
_SERVER: Mapping[str, str] = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # one process, not six


def ui_command(host: str = HOST, port: int = 5000) -> list[str]:
    """Give the command that shows a tracking store, by default to this machine only."""
    return [
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port),
        "--workers", "1",
    ]  # fmt: skip


def page(uri: str, port: int = 5000, *, host: str = HOST) -> str:
    """Give the address of the page that lists the detectors of the newest experiment, best first.

    Without ``workflowType`` MLflow opens on its pages for language-model traces.

    Raises:
        TrackingError: The store is not there, is a server itself, or cannot be opened.
    """
    _check_store(uri)
    experiment = newest_experiment(uri)
    address = f"http://{host}:{port}/#/experiments"
    kind = "workflowType=machine_learning"
    if experiment is None:
        return f"{address}?{kind}"
    return f"{address}/{experiment}/runs?{kind}&viewStateShareKey={VIEW}"


def serve(uri: str, port: int = 5000, *, host: str = HOST, address: str | None = None) -> int:
    """Show a tracking store until Ctrl-C or SIGTERM; then the exit status is 0.

    Args:
        uri: The store.
        port: Where to listen.
        host: Where to listen; by default this machine only.
        address: A page to open in the browser once the server answers.

    Raises:
        TrackingError: The store is not there, is a server itself, the port is taken, or the
            server ends by itself.
    """
    _check_store(uri)
    _check_port(host, port)
    # Every user of this machine can read a command line, but not the environment of a process.
    environment = {**NO_TELEMETRY, **_SERVER, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    # A group of its own: the server starts others, and all of them must end with it.
    with _interruptible():
        server = subprocess.Popen(ui_command(host, port), env=environment, start_new_session=True)
        if address:
            Thread(target=_browse, args=(address, host, port, server), daemon=True).start()
        try:
            status = server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)
    raise TrackingError(
        f"ui: the MLflow server should run until Ctrl-C, but ended with status {status}; its own "
        "messages above say why"
    )


def _check_store(uri: str) -> None:
    if uri.startswith(("http://", "https://")):
        raise TrackingError(
            f"ui: shows a store on disk or in a database, but {uri} is a server; open it in a "
            "browser"
        )
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise TrackingError(
            f"ui: needs a tracking store, but there is no {database}; run latentood score first, "
            "or name another with --tracking"
        )


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(
                f"ui: must be able to listen on {host}:{port}, but cannot ({error.strerror}); "
                "stop what listens there, or choose another --port"
            ) from None


def _browse(address: str, host: str, port: int, server: subprocess.Popen[bytes]) -> None:
    """Open a page in the browser as soon as the server answers."""
    while server.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(_SECONDS_BETWEEN_TRIES)
            continue
        webbrowser.open(address)
        return


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that no server is left running."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server's group of processes: SIGTERM first, SIGKILL if that is not enough."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(_SECONDS_TO_STOP)
        except (ProcessLookupError, PermissionError):  # the latter on macOS, if it is gone
            return
        except subprocess.TimeoutExpired:
            continue
