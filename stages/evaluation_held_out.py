"""What is measured on samples that a stage kept aside: a user's own pictures, captions and conversations."""

from collections.abc import Sequence

from stages.batches import ShardedSamples
from stages.chat import ChatSession
from stages.chat_data import open_conversations
from stages.chat_template import IMAGE, TemplateError
from stages.evaluation_captions import longest, loss_measures, write
from stages.evaluation_dialogue import held_out
from stages.evaluation_metrics import auc_measure
from stages.evaluation_report import Example, Findings
from stages.evaluation_retrieval import Judge, nearest, other_captions, retrieval
from stages.held_out import FIELD, divide
from stages.manifest import Manifest, ManifestError
from stages.pictures import picture_of
from stages.workspace import Workspace

SPLIT, LANGUAGE = "held_out", "all"
PICTURED = 12


def check_some(rows: Sequence[int], data: Manifest, share: float) -> None:
    """Refuse to measure on fewer than two samples.

    Raises:
        ManifestError: There are fewer.
    """
    if len(rows) < 2:
        raise ManifestError(
            f"{len(rows)} sample of {data.ref} is kept aside with {FIELD} {share:g}, and one has nothing to be told "
            f"apart from; train with a larger {FIELD}, or on more samples"
        )


def towers_held_out(judge: Judge, here: Workspace, data: Manifest, share: float, most: int, found: Findings) -> None:
    """Measure InternVL-C or -G on captioned pictures: retrieval and, with queries, matching and captioning.

    Args:
        judge: The model.
        here: Where the data is read.
        data: Shards that it was trained on.
        share: Of all pictures that its stage, and those before it, kept aside.
        most: Most samples that are measured.
        found: What was measured is added to it.

    Raises:
        ManifestError: Too few are kept aside.
    """
    samples = ShardedSamples(here.store, data, here.scratch / "data")
    rows = divide(samples.fingerprints, share, most, str(data.ref)).aside.tolist()
    check_some(rows, data, share)
    pictures = [picture_of(samples.read(row, "jpg")) for row in rows]
    captions = [samples.read(row, "txt").decode() for row in rows]
    spoken = [samples.facts(row).get("language") for row in rows]
    vision = judge.see(pictures)
    towers = judge.picture_vectors(vision)
    found.judged += len(rows)
    generative = judge.model.generative
    found.measures += retrieval(judge, SPLIT, LANGUAGE, towers, captions, "c_" if generative else "")
    best = nearest(towers, judge.text_vectors(captions), captions, PICTURED)
    shown = [[("caption", own), ("nearest caption", near)] for own, near in zip(captions, best, strict=False)]
    if generative:
        both = judge.picture_vectors(vision, queries=True)
        found.measures += retrieval(judge, SPLIT, LANGUAGE, both, captions, "g_")
        wrong = other_captions(captions, [samples.told_by(row) for row in rows])
        scores = judge.match(vision, captions), judge.match(vision, wrong)
        found.measures.append(auc_measure(SPLIT, LANGUAGE, "matching_auc_random", *scores))
        languages = [str(language) if language else None for language in spoken]
        found.measures += loss_measures(
            judge, vision, captions, languages, lambda place: samples.told_by(rows[place]), SPLIT, LANGUAGE
        )
        room = min(longest(judge, captions), judge.texts.context_length)
        for lines, seen, language in zip(shown, vision[:PICTURED].split(1), languages, strict=False):
            lines.append(("written", write(judge, seen, language, room)[0]))
    found.examples += [Example("kept aside", picture, lines) for picture, lines in zip(pictures, shown, strict=False)]


def dialogue_held_out(
    session: ChatSession, here: Workspace, data: Manifest, share: float, most: int, found: Findings
) -> None:
    """Measure a chat model on conversations: how likely the right answers are, and what it says itself.

    Args:
        session: The model.
        here: Where the data is read.
        data: Conversations that it was trained on.
        share: Of all pictures that its stage, and those before it, kept aside.
        most: Most conversations that are measured.
        found: What was measured is added to it.

    Raises:
        ManifestError: Too few are kept aside.
    """
    conversations = open_conversations(here, data, session.tokenizer, session.config)
    numbers = conversations.divided(share, most).aside.tolist()
    check_some(numbers, data, share)
    found.measures += held_out(session, conversations, numbers, SPLIT, LANGUAGE)
    found.judged += len(numbers)
    for number in numbers[:PICTURED]:
        turns, pictures = conversations.turns(number), conversations.pictures(number)
        if len(pictures) != 1:
            continue  # a page shows one picture beside what was said
        (picture,) = pictures
        question = turns[0].replace(IMAGE, "").strip()
        try:
            said = session.ask(question, picture)
        except TemplateError as error:
            said = f"could not be asked: {error}"
        lines = [("question", question), ("answer", turns[1]), ("the model", said)]
        found.examples.append(Example("kept aside", picture, lines))
