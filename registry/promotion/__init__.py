"""Choose a candidate, check its model, judge it at the gate and record the decision."""
