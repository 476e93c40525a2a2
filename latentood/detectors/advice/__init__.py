"""Which families of detectors are likely to work, from ID rows alone: a heuristic."""
