"""The tracking store is found, opened by one process at a time, and its errors are named."""

import sys
import threading

import mlflow
import pytest
from filelock import FileLock

from latentood.errors import TrackingError
from latentood.report import tracking_store
from latentood.report.tracking_store import (
    artifact_location,
    default_uri,
    experiment_named,
    opened,
    sqlite_uri,
)


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


def test_the_tables_of_a_store_are_made_by_one_at_a_time(tmp_path, monkeypatch):
    inside, most = [], []

    class Client:
        def __init__(self, **_):
            inside.append(self)

        def search_experiments(self, **_):
            threading.Event().wait(0.01)  # time for the others to come in
            most.append(len(inside))
            inside.remove(self)

    monkeypatch.setattr(mlflow, "MlflowClient", Client)

    def use():
        with opened(sqlite_uri(tmp_path), "list its runs"):
            pass

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert most == [1, 1, 1]


def test_a_store_that_another_process_holds_is_named_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking_store, "_SECONDS_TO_WAIT", 0)
    with (
        FileLock(tmp_path / "mlflow.db.lock"),
        pytest.raises(
            TrackingError, match=r"must list its runs, but does not \(.*mlflow\.db\.lock"
        ),
        opened(sqlite_uri(tmp_path), "list its runs"),
    ):
        pass


@pytest.mark.parametrize(
    ("uri", "module", "package"),
    [
        ("postgresql+psycopg2://me:secret@host/db", "psycopg2", "psycopg2-binary"),
        ("mysql://me:secret@host/db", "MySQLdb", "mysqlclient"),
    ],
)
def test_a_database_without_its_driver_says_what_to_install(uri, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = (
        rf"^tracking: \S+://\*\*\*@host/db needs the Python module {module}, which is not "
        rf"installed; results are safe: pip install {package}, or name another store"
    )
    with (
        pytest.raises(TrackingError, match=message),
        opened(uri, "take the runs", "results are safe: "),
    ):
        pass


@pytest.mark.parametrize("uri", ["http://me:secret@127.0.0.1:9", "gibberish://me:secret@host"])
def test_no_message_about_a_store_holds_its_password(uri):
    with pytest.raises(TrackingError) as caught, opened(uri, "list its runs"):
        pass
    assert "secret" not in str(caught.value)
    assert "***@" in str(caught.value)


def test_an_experiment_that_another_process_makes_first_is_used(tracked, monkeypatch):
    with opened(tracked[0], "take the runs") as client:
        home = client.create_experiment("shared")
        known = [None, client.get_experiment(home)]
        monkeypatch.setattr(client, "get_experiment_by_name", lambda name: known.pop(0))
        assert experiment_named(client, "shared", tracked[0]) == home
