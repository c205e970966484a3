"""Measurements of speed, each with its peers in the same run."""
