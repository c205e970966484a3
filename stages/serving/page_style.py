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
.gradio-container { width: 100% !important; max-width: 1240px !important; margin: 0 auto !important; }
#head { align-items: center; gap: .75rem 1.5rem; flex-wrap: wrap; }
#head h1 { font-size: 1.3rem; font-weight: 650; margin: 0; overflow-wrap: anywhere; }
#head p { margin: .15rem 0 0; color: var(--body-text-color-subdued); }
#head a { color: var(--link-text-color); text-decoration: underline; margin: 0 !important; padding: 0 !important; }
h2 { font-size: .95rem; font-weight: 650; margin: .25rem 0 .5rem; }
#trouble > div { padding: .6rem .9rem; border-radius: .6rem; border: 1px solid #d9822b; background: #d9822b1f; }
#tiles p, #tiles figcaption { color: var(--body-text-color-subdued); font-size: .9rem; margin: .35rem 0 .75rem; }
.sight { display: flex; flex-wrap: wrap; gap: .75rem; }
.sight figure { margin: 0; flex: 1 1 140px; max-width: 340px; }
.sight .cut { display: grid; gap: 3px; }
.sight .small { width: 33%; margin-top: 6px; }
.sight img { width: 100%; display: block; border-radius: 3px; }
.crisp img, .scene img { image-rendering: pixelated; }
.scene { justify-content: flex-start !important; text-align: left; font-weight: 400; gap: .75rem; padding: .4rem;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
.scene:hover { border-color: var(--color-accent); }
.scene img { width: 52px !important; height: 52px !important; border-radius: 4px; margin: 0 !important; }
#said img { width: 140px; min-width: 112px; max-height: 320px; object-fit: contain !important; border-radius: 6px; }
/* Under a picture the toolkit offers to share it with a site of its maker. */
#said .message-buttons { display: none !important; }
#ask .submit-button:not(:disabled) { background: var(--button-primary-background-fill); color: #fff; }
footer { display: none !important; }
@media (max-width: 640px) {
  .gradio-container, .gradio-container > main { padding: .5rem !important; }
  #head h1 { font-size: 1.1rem; }
  #said { height: 46vh !important; }
  #head > * { flex: 1 1 100% !important; }
  .sight figure { max-width: 200px; }
}
"""
