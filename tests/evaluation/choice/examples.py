"""Splits with tuning sets, in memory."""

import torch

from latentood.latents import Latents
from latentood.latents.facts import SplitFacts
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.examples import HEADER, latents, splits

REPORTED = ("id_test", "close", "noise", "texture")


def tunable(*, sets=(("odd", 1.0), ("other", 2.0)), **options):
    """The usual splits, and one of role tune for each pair of a name and a shift."""
    given = splits(**options)
    made = {name: latents(70, shift, 20 + n, name=name) for n, (name, shift) in enumerate(sets)}
    return SplitsInMemory(
        {**given.latents, **made},
        {**given.splits, **{name: SplitFacts("tune") for name in made}},
        HEADER,
    )


def with_passes(rows, shift, seed, name, *, passes=6):
    """Rows with features and logits of every pass; OOD varies more from pass to pass."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.eye(3, 8)[torch.arange(rows) % 3] * 4 + shift
    spread = 0.5 + abs(shift)
    noise = torch.randn(rows, passes, 8, generator=generator) * spread
    features = centre[:, None] + noise
    return Latents(
        logits=features.mean(dim=1)[:, :3],
        labels=torch.arange(rows) % 3,
        features={"penultimate": features.mean(dim=1)},
        mc_features={"penultimate": features},
        mc_logits=features[:, :, :3],
        name=name,
    )


def of_passes(**options):
    """Give splits of every role whose passes are kept one by one."""
    roles = {"train": "fit", "val": "val", "odd": "tune", "id_test": "id", "noise": "far"}
    shifts = {"odd": 0.3, "noise": 0.2}
    return SplitsInMemory.of(
        **{
            name: (role, with_passes(60, shifts.get(name, 0.0), n, name, **options))
            for n, (name, role) in enumerate(roles.items())
        }
    )


class Watched(SplitsInMemory):
    """Splits that note which of them are opened."""

    def __getitem__(self, split):
        self.opened.append(split)
        return super().__getitem__(split)

    def ids(self, split):
        self.opened.append(split)
        return super().ids(split)


def watched(without=()):
    """Give the splits of :func:`tunable`, which note what is opened in ``opened``."""
    given = tunable()
    kept = {name: facts for name, facts in given.splits.items() if name not in without}
    one = Watched(given.latents, kept, given.header)
    object.__setattr__(one, "opened", [])
    return one
