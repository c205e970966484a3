"""What captions are made of, measured once for a whole batch and shared by every filter that reads it."""

from filters.text.captions import Captions, captions_of

__all__ = ["Captions", "captions_of"]
