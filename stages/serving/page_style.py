"""How the chat page looks: the reader's own fonts, light and dark, wide and narrow."""

from typing import Any

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Any:
    """Return the toolkit's colours and fonts; none of them is fetched from anywhere."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=SANS,
        font_mono=MONO,
    )


CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
#head { align-items: center; gap: 1rem; }
#head h1 { font-size: 1.25rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; }
#head p { margin: .1rem 0 0; color: var(--body-text-color-subdued); }
#head a { color: var(--link-text-color); text-decoration: underline; }
#trouble > div { padding: .6rem .9rem; border-radius: .6rem; border: 1px solid #d9822b; background: #d9822b1f; }
#about { color: var(--body-text-color-subdued); padding: .25rem .1rem; }
/* A tile of few pixels is shown as the few pixels that it is. */
#tiles img, #scenes img { image-rendering: pixelated; }
#scenes .thumbnail-item { cursor: pointer; }
#said img { min-width: 96px; image-rendering: auto; }
footer { display: none !important; }
@media (max-width: 640px) {
  #head { gap: .5rem; }
  #head h1 { font-size: 1.05rem; }
  .gradio-container { padding: .5rem !important; }
}
"""
