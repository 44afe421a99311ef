"""Compare configurations of training: the plan, its trainings, and finished runs."""
