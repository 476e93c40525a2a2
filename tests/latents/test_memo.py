"""Questions to rows: answered in as few reads as can be, and once."""

from dataclasses import dataclass

import pytest
import torch

from latentood.errors import DataError, StoreError
from latentood.latents import CHUNK_ROWS, Latents, Reading
from tests.latents.test_rows import Counted


@dataclass(frozen=True)
class Total:
    key: str = "logits"

    def keys(self):
        return (self.key,)

    def start(self, source):
        parts = []
        return Reading(lambda chunk: parts.append(chunk.double(self.key).sum()), lambda: sum(parts))


@dataclass(frozen=True)
class Above:
    """How many numbers are above a share of the total: needs another read."""

    share: float

    def keys(self):
        return ("logits",)

    def start(self, source):
        limit = source.compute(Total()) * self.share
        parts = []
        return Reading(
            lambda chunk: parts.append((chunk.double("logits") > limit).sum()), lambda: sum(parts)
        )


@dataclass(frozen=True)
class Twice:
    def keys(self):
        return ()

    def start(self, source):
        total = source.compute(Total())
        return Reading(lambda chunk: pytest.fail("it reads nothing"), lambda: 2 * total)


@dataclass(frozen=True)
class AboveTwice(Above):
    """As above, but of what only follows from the total."""

    def start(self, source):
        source.compute(Twice())
        return super().start(source)


@dataclass(frozen=True)
class Loop:
    other: str

    def keys(self):
        return ("logits",)

    def start(self, source):
        source.compute(Loop(self.other[::-1]))


def rows(count=2 * CHUNK_ROWS + 10):
    counted = Counted(count, 2)
    return counted, Latents.from_rows({"logits": counted})


def test_questions_that_wait_for_another_share_one_more_read():
    counted, latents = rows()
    latents.gather([Above(0.0), Above(0.5), Twice(), Above(1.0)])
    assert set(counted.times.tolist()) == {2}
    assert latents.compute(Twice()) == 2 * counted.values.sum()
    assert latents.compute(Above(0.0)) == 2 * len(latents) - 1
    assert set(counted.times.tolist()) == {2}


@pytest.mark.parametrize("order", [1, -1])
def test_what_only_follows_from_others_takes_no_turn_of_its_own(order):
    counted, latents = rows()
    latents.gather([Twice(), Above(0.5), AboveTwice(0.5)][::order])
    assert set(counted.times.tolist()) == {2}


def test_questions_that_wait_for_each_other_are_an_error():
    with pytest.raises(RuntimeError, match="wait for each other"):
        rows()[1].gather([Loop("ab")])


def test_a_question_with_an_error_can_be_asked_again():
    @dataclass(frozen=True)
    class Fails:
        def keys(self):
            return ("logits",)

        def start(self, source):
            raise ValueError("no")

    counted, latents = rows()
    with pytest.raises(ValueError, match="no"):
        latents.compute(Fails())
    assert latents.compute(Total()) == counted.values.sum()


def test_what_is_known_on_a_device_is_known_by_every_view_of_it():
    counted, latents = rows()
    latents.to("meta")
    first = latents.to("cpu:0") if latents.to("cpu") is not latents else latents
    first.compute(Total())
    assert latents.to("meta").to("cpu").compute(Total()) == counted.values.sum()
    assert set(counted.times.tolist()) == {1}


def test_parts_of_a_chunk_answer_once_and_other_chunks_for_themselves():
    _, latents = rows()
    asked = []

    def answer(chunk):
        asked.append(chunk.offset)
        return chunk.offset

    whole, following = list(latents.chunks(["logits"]))[:2]
    for chunk in (whole, following):
        for _ in range(3):
            for start in (0, 100):
                part = chunk.take(["logits"], start, start + 100)
                assert part.once("offset", lambda part=part: answer(part)) == chunk.offset + start
    assert asked == [0, 100, CHUNK_ROWS, CHUNK_ROWS + 100]


def test_outside_of_a_chunk_nothing_is_remembered():
    _, latents = rows()
    asked = []
    for _ in range(2):
        latents.once("x", lambda: asked.append(1))
    assert asked == [1, 1]


@dataclass(frozen=True)
class Failing:
    """Fails where it is told to."""

    where: str
    error: type[Exception] = ValueError

    def keys(self):
        return ("logits",)

    def start(self, source):
        def fail(here):
            if here == self.where:
                raise self.error(here)

        fail("start")
        return Reading(lambda chunk: fail("chunk"), lambda: fail("end"))


@dataclass(frozen=True)
class After:
    """Needs one that fails."""

    other: Failing

    def keys(self):
        return ("logits",)

    def start(self, source):
        return source.compute(self.other)


@pytest.mark.parametrize("where", ["start", "chunk", "end"])
def test_a_question_that_fails_leaves_the_others_alone(where):
    counted, latents = rows()
    with pytest.raises(ValueError, match=where):
        latents.gather([After(Failing(where)), Total(), Failing(where), Above(0.0)])
    read = set(counted.times.tolist())
    assert latents.compute(Total()) == counted.values.sum()
    assert latents.compute(Above(0.0)) == 2 * len(latents) - 1
    assert set(counted.times.tolist()) == read == {2}
    with pytest.raises(ValueError, match=where):
        latents.compute(After(Failing(where)))


def test_a_bad_value_fails_only_the_questions_that_read_it():
    values = torch.ones(5, 2)
    spoilt = values.clone()
    spoilt[3, 1] = torch.nan
    latents = Latents(logits=values, features={"a": spoilt}, name="x")
    with pytest.raises(DataError, match=r"^x: features/a must be finite, .* in row 3; "):
        latents.gather([Total("features/a"), Total()])
    assert Total() in latents._memo._known[latents.device]


def test_a_damaged_store_fails_all_questions():
    _, latents = rows()
    with pytest.raises(StoreError):
        latents.gather([Failing("chunk", StoreError), Total()])
    assert Total() not in latents._memo._known.get(latents.device, {})


def test_no_more_is_read_once_all_questions_have_failed():
    counted, latents = rows()
    with pytest.raises(ValueError, match="chunk"):
        latents.compute(Failing("chunk"))
    assert counted.times.sum() == CHUNK_ROWS
