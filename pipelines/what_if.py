"""The what-if form of the Prefect UI: other thresholds, and what they would keep."""

from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from infra.settings import settings
from infra.storage import Store
from pipelines.names import SourceName
from pipelines.questions import Question, ask, markdown
from stages.ref import Ref


@flow(name="whatif", flow_run_name="whatif-{verdicts}")
def what_if(
    verdicts: str = "verdicts/caption_quality/laion_en@tiny",
    changes: tuple[str, ...] = (),
    target: Annotated[float | None, Field(gt=0, le=1)] = None,
    budget: Annotated[int | None, Field(ge=1)] = None,
    move: tuple[str, ...] = (),
    within: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    more_sources: tuple[SourceName, ...] = (),
) -> str:
    """Ask what other thresholds would keep; nothing is changed. The answer is an artifact of the run.

    Give changes, or a target, or a budget.

    Args:
        verdicts: The verdicts to ask, name@version.
        changes: Thresholds as they would be, each as rule.field=value, such as length_units.min_units=8.
        target: Find thresholds that keep this share of the judged rows, such as 0.047.
        budget: Find thresholds that keep as many rows as this, and not more.
        move: Rules that a target or budget may move; length, completeness and similarity when left empty.
        within: Take the smallest move that misses the goal by no more than this share.
        more_sources: Ask these sources of the same policy and version too.
    """
    question = Question(changes, target, budget, move, within)
    text = markdown(ask(Store(settings().store_root), verdicts, question, [str(each) for each in more_sources]))
    # One key per verdicts, so the UI shows what was asked of them one after the other.
    name = Ref.model_validate(verdicts).name.removeprefix("verdicts/")
    create_markdown_artifact(text, key=f"whatif-{name.replace('/', '-').replace('_', '-')}")
    return text
