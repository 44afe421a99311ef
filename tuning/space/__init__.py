"""Search spaces: YAML files, their parser, grids and warm starts."""
