"""Run directories: what lies where, and the configuration that made it."""
