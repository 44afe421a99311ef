"""Tests. A package, because iterative-stratification installs a package of the same name, which would win otherwise."""
