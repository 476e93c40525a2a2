import json
import math

import pytest
import torch

from latentood.errors import ConfigError
from latentood.models.heads import HEADS, PriorHead, build_head, describe


def test_the_mean_is_the_softmax_and_alpha_its_numerators():
    logits = torch.tensor([[-3.0, 0.5, 2.0], [100.0, 0.0, -100.0]])
    given = PriorHead(3, 3)(logits)
    assert torch.equal(given.log_alpha, logits.double())
    assert torch.allclose(given.probability, logits.double().softmax(dim=1))


def test_uncertainty_is_what_sampling_finds():
    torch.manual_seed(0)
    head = PriorHead(3, 3)
    for alpha in ([0.5, 0.2, 0.9], [50.0, 2.0, 1.0]):
        drawn = torch.distributions.Dirichlet(torch.tensor(alpha).double()).sample((200_000,))
        inner = torch.special.entr(drawn).sum(dim=1)
        sampled = torch.special.entr(drawn.mean(dim=0)).sum() - inner.mean()
        ours = head.uncertainty(head(torch.tensor([alpha]).log()))
        assert abs(float(ours - sampled)) < 6 * float(inner.std()) / 200_000**0.5


def test_uncertainty_falls_with_the_precision_and_stays_in_its_range():
    head = PriorHead(4, 4)
    levels = torch.tensor([-1e4, -5.0, 0.0, 3.0, 10.0, 1e4]).unsqueeze(1).expand(-1, 4)
    given = head.uncertainty(head(levels))
    assert given.tolist() == sorted(given.tolist(), reverse=True)
    assert float(given[0]) == pytest.approx(math.log(4))
    assert 0 <= float(given[-1]) < 1e-9


def test_a_head_is_built_again_from_its_record():
    assert isinstance(
        build_head(json.loads(json.dumps(describe(PriorHead(3, 3)))), HEADS), PriorHead
    )


def test_an_output_that_is_no_logits_is_refused():
    with pytest.raises(ConfigError, match=r"prior: .* each of 10 classes, got 512"):
        PriorHead(512, 10)
