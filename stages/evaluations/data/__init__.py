"""Datasets as users have them, each layout read by one module; `open_examples` finds the right one."""

from stages.evaluations.data.opening import find_place, open_examples, what_to_fetch

__all__ = ["find_place", "open_examples", "what_to_fetch"]
