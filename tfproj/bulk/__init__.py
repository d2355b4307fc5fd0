"""Prediction of millions of images: parts that are whole or not there, on an engine or without."""
