"""What every room may use: image policy, files, the record of a model. Nothing heavy."""
