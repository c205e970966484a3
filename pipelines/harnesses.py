"""The command that tells how an exported model is handed to other people's evaluation harnesses."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console


@app.command()
def harness(
    folder: Annotated[Path, typer.Argument(help="A folder that `internvl export` wrote.")],
    write: Annotated[
        Path | None, typer.Option("--write", help="Folder for the configuration that VLMEvalKit reads.")
    ] = None,
) -> None:
    """Tell how an exported model is measured by CLIP_benchmark, lmms-eval and VLMEvalKit.

    InternVL-C and -G go to CLIP_benchmark, with an adapter of ours; chat models
    to the other two, loaded by transformers or behind `internvl serve`.
    """
    with clear_errors():
        from stages.evaluations.elsewhere import CONFIG, handed, vlmevalkit_config
        from stages.evaluations.on_clip_benchmark import KIND

        found = handed(folder)
        for each in found:
            note = "" if each.tested else " (not run by us: the harness needs an environment of its own)"
            console.print(f"# {each.harness}{note}", highlight=False, markup=False, soft_wrap=True)
            console.print(f"# {each.why}\n{each.run}\n", highlight=False, markup=False, soft_wrap=True)
        if write is not None:
            if not any(CONFIG in each.run for each in found):
                raise Refusal(f"{folder} is no chat model: CLIP_benchmark's `{KIND}` needs no configuration")
            write.mkdir(parents=True, exist_ok=True)
            (write / CONFIG).write_text(vlmevalkit_config(folder))
            console.print(f"{write / CONFIG} is written", highlight=False, markup=False, soft_wrap=True)
