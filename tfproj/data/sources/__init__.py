"""Where examples come from: one module per data set or format, each a function that reads it."""
