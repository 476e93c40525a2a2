"""The MLflow store: its address, how it is opened, and the errors it raises."""

from __future__ import annotations

import logging
import os
import tempfile
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from latentood.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

NO_TELEMETRY: Mapping[str, str] = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

_SQLITE = "sqlite:///"
_DATABASE = "mlflow.db"
_ARTIFACTS = "mlartifacts"
_SECONDS_TO_WAIT = 60  # the tables are made in about two

# A server that does not answer must cost seconds: results are safe, and can be tracked later.
_ONE_RETRY: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_FIRST_ANSWER: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
_UPLOAD: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
_NOISY = ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool")
_PACKAGES: Mapping[str, str] = {  # of modules that are not called like their package
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}


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


@contextmanager
def opened(uri: str, purpose: str, kept: str = "") -> Iterator[MlflowClient]:
    """Open a store, and make or migrate its tables where that is still to be done.

    Args:
        uri: Its address.
        purpose: What it must do, for messages.
        kept: What is safe whatever happens to the store, for messages.

    Raises:
        TrackingError: The store cannot be opened, or something fails while it is open.
    """
    for variable, value in NO_TELEMETRY.items():
        os.environ.setdefault(variable, value)
    with _quiet(), _defaults(_ONE_RETRY), _named_errors(uri, purpose, kept):
        from mlflow import MlflowClient

        with _alone(uri), _defaults(_FIRST_ANSWER):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        with _defaults(_UPLOAD):
            yield client


def _alone(uri: str) -> AbstractContextManager[object]:
    """Wait until no other process makes the tables of a SQLite store: two at once both fail."""
    if (database := sqlite_file(uri)) is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(database.with_name(database.name + ".lock"), timeout=_SECONDS_TO_WAIT)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence deprecation warnings and log lines of MLflow and the libraries below it."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _NOISY)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


@contextmanager
def _defaults(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that the user did not set, for a while."""
    mine = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


@contextmanager
def _named_errors(uri: str, purpose: str, kept: str) -> Iterator[None]:
    """Turn whatever MLflow and its store raise into one error that names what is kept."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(str(error.name), error.name)
        raise TrackingError(
            f"tracking: {uri} needs the Python module {error.name}, which is not installed; "
            f"{kept}pip install {package}, or name another store with --tracking"
        ) from error
    except (CommandError, MlflowException, SQLAlchemyError, ImportError, OSError) as error:
        reason = textwrap.shorten(str(error), 200, placeholder=" …")
        raise TrackingError(
            f"tracking: {uri} must {purpose}, but does not ({reason}); {kept}start the server or "
            "name another store with --tracking"
        ) from error


def experiment_named(client: MlflowClient, name: str, uri: str) -> str:
    """Find an experiment, or make it with its artifacts beside a SQLite store."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifact_location(uri)))
        except MlflowException:
            known = client.get_experiment_by_name(name)  # another process was first
            if known is None:
                raise
    return str(known.experiment_id)


@contextmanager
def artifacts(client: MlflowClient, run: str) -> Iterator[Path]:
    """Give a folder whose files become artifacts of a run, in one call."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        client.log_artifacts(run, folder)
