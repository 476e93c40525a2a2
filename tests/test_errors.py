"""Messages are complete, on one line, and hold neither passwords nor terminal commands."""

import pytest

from latentood.errors import ConfigError, TrackingError, UnknownName, masked, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:pass@host/db", "postgresql://***@host/db"),
        ("postgresql://user:p@ss/w:rd@host/db", "postgresql://***@host/db"),
        ("mysql+pymysql://user@host:3306/db", "mysql+pymysql://***@host:3306/db"),
        ("http://:token@host", "http://***@host"),
        ("no http://u:p@a or https://u:p@b?x=1; end", "no http://***@a or https://***@b?x=1; end"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://host:5000/#/x?y=1 mail a@b", "http://host:5000/#/x?y=1 mail a@b"),
        ("knn@penultimate: k=5", "knn@penultimate: k=5"),
    ],
)
def test_user_and_password_of_a_uri_are_hidden(text, expected):
    assert masked(text) == expected


@pytest.mark.parametrize("kind", [ConfigError, TrackingError, UnknownName])
def test_no_message_holds_a_password(kind):
    assert str(kind("store: http://u:p@host is down")) == "store: http://***@host is down"


def test_control_characters_are_written_as_escapes():
    every = "".join(map(chr, [*range(32), *range(127, 160), 0xDCE9]))
    assert printable(every).isprintable()
    assert printable("a\x1b[31m\n\x9b\udce9") == r"a\x1b[31m\n\x9b\udce9"


def test_other_characters_stay():
    text = "μ · café \N{SNOWMAN} \\x1b"
    assert printable(text) == text
