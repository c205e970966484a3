"""Stands here so that pytest puts this folder on the path: tests in the folders below use `training_data` too."""
