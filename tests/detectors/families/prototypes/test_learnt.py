from tests.parity.agreement import assert_agrees


def test_the_distance_agrees_with_the_slow_formula(blobs):
    assert_agrees(blobs, "prototype_distance")
