"""Run directories: what lies where, and the configuration that made it."""

DEFAULT_ROOT = "runs"  # here, where a command that needs no run finds it
