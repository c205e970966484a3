"""The command that makes a filter report: of what stands, with people's answers, beside another run; or of a file."""

from pathlib import Path
from typing import Annotated

import typer

from infra.settings import settings
from infra.storage import Store
from pipelines.options import app
from pipelines.terminal import Refusal, clear_errors, console
from stages.ref import Ref

MOST_BYTES = 64 * 1024**2


@app.command()
def report(
    what: Annotated[
        str,
        typer.Argument(
            help="Verdicts, as verdicts/caption_quality/laion_en@tiny, or of all sources, as verdicts/clean@tiny; "
            "or a file of captions."
        ),
    ],
    reviews: Annotated[
        list[Path] | None,
        typer.Option("--reviews", help="Answers saved from the page; they are kept beside the verdicts."),
    ] = None,
    against: Annotated[str, typer.Option("--against", help="Version of another run to compare with.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file to write.")] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="For a file: the source whose rules and whose share it is held against.")
    ] = "",
    band: Annotated[
        float, typer.Option("--band", min=0.001, max=0.2, help="How far a source may lie from the paper's share.")
    ] = 0.07,
) -> None:
    """Write the filter report as one page: what each rule took, rows at the edge, what other thresholds would do."""
    with clear_errors():
        from stages.report.again import again, policy_of, source_of, verdicts_at
        from stages.report.reviews import keep, parse

        if "@" not in what and Path(what).is_file():
            from pipelines.caption_page import page_of_file

            if reviews or against:
                raise Refusal(
                    "--reviews and --against are about verdicts in the store; a file of captions has neither"
                )
            _write(out or Path(Path(what).stem + "-filter-report.html"), page_of_file(Path(what), profile, band))
            return
        store, ref = Store(settings().store_root), _ref(what)
        manifests = verdicts_at(store, ref)
        by_source = {source_of(each): each for each in manifests}
        rules = {name: [rule.reason for rule in policy_of(each).filters] for name, each in by_source.items()}
        for path, answers in [(path, parse(_text(path), rules, str(path))) for path in reviews or ()]:
            if not answers:
                raise Refusal(f"{path} holds no answer; give some on the page, save them and name that file")
            for name in sorted({each.source for each in answers}):
                key = keep(store, by_source[name], [each for each in answers if each.source == name])
                console.print(f"kept as {key}", highlight=False, markup=False)
        page = again(store, manifests, against, band)
        _write(out or Path("-".join([*ref.name.split("/")[1:], ref.version, "filter-report.html"])), page)


def _ref(text: str) -> Ref:
    if "@" not in text:
        raise Refusal(
            f"there is no file {text}, and it is no reference; write one as verdicts/caption_quality/laion_en@tiny"
        )
    return Ref.model_validate(text)


def _text(path: Path) -> str:
    if not path.is_file():
        raise Refusal(f"there is no file {path}; save answers from the page and name that file")
    if path.stat().st_size > MOST_BYTES:
        raise Refusal(f"{path} has {path.stat().st_size:,} bytes; a file of answers is smaller, split it")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(f"{path} is no UTF-8: {error}; save answers from the page, which writes JSON lines") from None


def _write(path: Path, page: str) -> None:
    if not path.parent.is_dir():
        raise Refusal(f"{path.parent} is no folder; make it, or name another file with --out")
    path.write_text(page, encoding="utf-8")
    console.print(f"{path}  {len(page.encode()):,} bytes", highlight=False, markup=False)
