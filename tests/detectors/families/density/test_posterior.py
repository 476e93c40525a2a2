import torch

import latentood as lo
from latentood.detectors.fitted import fit
from tests.parity.agreement import assert_agrees


def test_the_density_agrees_with_the_slow_formula(blobs):
    assert_agrees(blobs, "posterior_density")


def test_a_row_without_any_density_still_has_a_score():
    rows = lo.Latents(density=torch.tensor([[-1e6, -1e6], [0.0, -1e6]]))
    far, near = fit(lo.detector("posterior_density"), rows).score(rows)
    assert far == 1e6
    assert near == torch.tensor(2.0, dtype=torch.float64).log()
