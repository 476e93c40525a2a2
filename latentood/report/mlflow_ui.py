"""Where runs are kept, and the MLflow UI that shows them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from latentood.errors import TrackingError

HOST = "127.0.0.1"
_SQLITE = "sqlite:///"
_DATABASE = "mlflow.db"
_ARTIFACTS = "mlartifacts"
_SECONDS_TO_STOP = 10

NO_TELEMETRY: Mapping[str, str] = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_SERVER: Mapping[str, str] = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # one process, not six


def default_uri(folder: Path | str = ".") -> str:
    """Name the tracking store: ``$MLFLOW_TRACKING_URI``, else ``mlflow.db`` in a folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(folder)


def sqlite_uri(folder: Path | str) -> str:
    """Name the SQLite tracking store of a folder by its absolute path."""
    return f"{_SQLITE}{(Path(folder).resolve() / _DATABASE).as_posix()}"


def sqlite_file(uri: str) -> Path | None:
    """Give the file of a SQLite address; None for any other store."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).resolve()


def artifact_location(uri: str) -> str | None:
    """Name the folder for artifacts: beside a SQLite file; None leaves it to the server."""
    database = sqlite_file(uri)
    return None if database is None else (database.parent / _ARTIFACTS).as_uri()


def ui_command(uri: str, host: str = HOST, port: int = 5000) -> list[str]:
    """Give the command that shows a tracking store, by default to this machine only."""
    return [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def page(port: int, host: str = HOST) -> str:
    """Give the address of the page that lists the runs.

    Without ``workflowType`` MLflow opens on its pages for language-model traces.
    """
    return f"http://{host}:{port}/#/experiments?workflowType=machine_learning"


def serve(uri: str, port: int = 5000, *, host: str = HOST) -> int:
    """Show a tracking store until Ctrl-C or SIGTERM; then the exit status is 0.

    Raises:
        TrackingError: The store is not there, is a server itself, the port is taken, or the
            server ends by itself.
    """
    _check_store(uri)
    _check_port(host, port)
    environment = {**NO_TELEMETRY, **_SERVER, **os.environ}
    # A group of its own: the server starts others, and all of them must end with it.
    with _interruptible():
        server = subprocess.Popen(
            ui_command(uri, host, port), env=environment, start_new_session=True
        )
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
