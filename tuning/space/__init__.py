"""Search spaces: YAML files, their parser, the grid and the warm start."""
