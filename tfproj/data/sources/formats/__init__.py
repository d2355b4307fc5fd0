"""Data sets as other tools write them, one reader each."""
