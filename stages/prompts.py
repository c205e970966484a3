"""The fixed words of the trained interface: what stands before a text whose vector or whose caption is asked for."""

SUMMARIZE = "summarize:"
"""Stands before a text whose vector is asked for: part of the interface of InternVL-C and -G."""
DESCRIBE = {"en": "Describe the picture.", "de": "Beschreibe das Bild.", "zh": "描述这幅图片。"}
"""What a chat model is asked for a caption, by language."""
_CAPTION = {"en": "English caption:", "zh": "Chinese caption:", "de": "German caption:", "ja": "Japanese caption:"}
_ANY_CAPTION = "Caption:"


def caption_prompt(language: str | None) -> str:
    """Return what stands before a caption that QLLaMA is to write.

    The official code knows only the English one; one per language is our own choice.
    """
    return _CAPTION.get(language or "", _ANY_CAPTION)


def all_prompts() -> list[str]:
    """Return every fixed text: a tokenizer that learns them spends few tokens on what is said all the time."""
    return [SUMMARIZE, _ANY_CAPTION, *_CAPTION.values(), *DESCRIBE.values()]
