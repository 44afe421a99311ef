"""A package, so that a package `tests` that another distribution installs does not take its place."""
