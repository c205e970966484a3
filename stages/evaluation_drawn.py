"""What is measured on the drawn world, where every caption and answer is known to be right or wrong."""

from collections.abc import Sequence

from stages import evaluation_captions, evaluation_dialogue, evaluation_retrieval
from stages.chat import ChatSession
from stages.evaluation_report import Example, Findings
from stages.evaluation_retrieval import Judge
from stages.evaluation_world import World, elsewhere

PICTURED = 8
"""Pictures of each split that the page shows."""


def contrastive(judge: Judge, world: World, languages: Sequence[str], found: Findings) -> None:
    """Measure InternVL-C: retrieval in both directions, and which word of a caption fits."""
    vectors = judge.picture_vectors(judge.see(world.pictures))
    for language in languages:
        captions = world.captions(language)
        found.measures += evaluation_retrieval.retrieval(judge, world.split, language, vectors, captions)
        found.measures += evaluation_retrieval.slots(judge, world, vectors, language)
    captions = world.captions(languages[0])
    chosen = evaluation_retrieval.nearest(vectors, judge.text_vectors(captions), captions, PICTURED)
    for picture, own, best in zip(world.pictures, captions, chosen, strict=False):
        lines = [("caption", own), ("nearest caption", best)]
        found.examples.append(Example(f"{world.split}: nearest captions", picture, lines, own == best))
    found.judged += len(world.pictures)


def generative(judge: Judge, world: World, languages: Sequence[str], found: Findings) -> None:
    """Measure InternVL-G: retrieval by the towers and with queries, the matching head, and written captions."""
    vision = judge.see(world.pictures)
    ways = {"c_": judge.picture_vectors(vision), "g_": judge.picture_vectors(vision, queries=True)}
    for language in languages:
        captions = world.captions(language)
        for prefix, vectors in ways.items():
            found.measures += evaluation_retrieval.retrieval(judge, world.split, language, vectors, captions, prefix)
        if language == languages[0]:  # eight verdicts per picture: one language tells
            found.measures.append(evaluation_retrieval.reranked(judge, world, vision, ways["g_"], language))
        found.measures += evaluation_retrieval.matching(judge, world, vision, language)
        measures, written = evaluation_captions.captions(judge, world, vision, language)
        found.measures += measures
        if language == languages[0]:
            told = zip(world.pictures, captions, written, elsewhere(written), strict=True)
            for picture, own, said, blind in list(told)[:PICTURED]:
                lines = [("caption", own), ("written", said), ("of the next picture", blind)]
                found.examples.append(Example(f"{world.split}: written captions", picture, lines))
    found.judged += len(world.pictures)


def instruct(session: ChatSession, world: World, languages: Sequence[str], batch_size: int, found: Findings) -> None:
    """Measure a chat model: questions of every kind, and descriptions."""
    interview = evaluation_dialogue.Interview(session, world.pictures, batch_size)
    for language in languages:
        measures, answered = evaluation_dialogue.questioned(interview, world, language)
        described, written = evaluation_dialogue.described(interview, world, language)
        found.measures += measures + described
        found.judged += (len(answered) + 1) * len(world.pictures)
        if language != languages[0]:
            continue
        for number, picture in enumerate(world.pictures[:PICTURED]):
            each = answered[number % len(answered)]
            asked, answer = each.questions[number], each.answers[number]
            lines = [("question", asked.question), ("answer", asked.answer), ("the model", answer)]
            right = evaluation_dialogue.same(answer, asked.answer)
            found.examples.append(Example(f"{world.split}: questions", picture, lines, right))
        told = zip(world.pictures, world.captions(language), written, strict=True)
        for picture, own, said in list(told)[:PICTURED]:
            lines = [("caption", own), ("the model", said)]
            found.examples.append(Example(f"{world.split}: descriptions", picture, lines))
