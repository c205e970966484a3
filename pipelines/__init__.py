"""Prefect flows that chain the stages, the launcher, and the command line."""
