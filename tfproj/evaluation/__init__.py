"""What a trained run is worth, and what the report shows of it."""
