"""Conversations as the text that a chat model is trained on, and which of its tokens are learned.

The templates are the official ones; the text is part of a trained model's interface. Text is
turned into tokens piece by piece, so that a prompt at generation ends at the very border
where the answer began in training, and no re-tokenising can shift a label.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
VIDEO = "<video>"
IMAGE, IMG_START, IMG_END, IMG_CONTEXT = "<image>", "<img>", "</img>", "<IMG_CONTEXT>"
SPECIAL_TOKENS = (IMG_START, IMG_END, IMG_CONTEXT, "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
"""What every chat model adds to its language model's tokenizer, in the official order."""
GROUNDING = frozenset(SPECIAL_TOKENS[3:])
"""`<ref>`, `<box>` and so on: a person may say them."""
IGNORE = -100

Encode = Callable[[str], list[int]]


class TemplateError(ValueError):
    """A conversation cannot be rendered; the message says why."""


@dataclass(frozen=True)
class Template:
    """How one family of chat models writes conversations.

    `end` closes an answer and is learned; `gap` follows it and is not.
    """

    system: str
    human: str
    assistant: str
    human_end: str
    end: str
    opener: str = ""
    system_end: str = ""
    gap: str = ""
    strip: bool = False
    bos: bool = False


def _chat_ml(gap: str = "", strip: bool = False, bos: bool = False) -> Template:
    return Template(
        system="<|im_start|>system\n{system_message}",
        system_end="<|im_end|>" + gap,
        human="<|im_start|>user\n",
        human_end="<|im_end|>" + gap,
        assistant="<|im_start|>assistant\n",
        end="<|im_end|>",
        gap=gap,
        strip=strip,
        bos=bos,
    )


TEMPLATES = {
    "Hermes-2": _chat_ml(),
    # This one alone strips each turn, and expects the tokenizer's one bos in front.
    "internlm2-chat": _chat_ml(strip=True, bos=True),
    "internvl2_5": _chat_ml(gap="\n"),
    "phi3-chat": Template(
        system="<|system|>\n{system_message}",
        system_end="<|end|>",
        human="<|user|>\n",
        human_end="<|end|>",
        assistant="<|assistant|>\n",
        end="<|end|>",
    ),
    # Vicuna's, whose LLaMA tokenizer puts one bos in front.
    "vicuna_v1": Template(
        system="{system_message}",
        system_end=" ",
        human="USER",
        human_end=" ",
        assistant="ASSISTANT",
        end="</s>",
        opener=": ",
        bos=True,
    ),
    "internvl_zh": Template(
        system="{system_message}",
        system_end=" ",
        human="<human>",
        human_end=" ",
        assistant="<bot>",
        end="</s>",
        opener=": ",
    ),
}


_LAB = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
SYSTEM_MESSAGES = {
    "Hermes-2": _LAB,
    "internlm2-chat": _LAB,
    "phi3-chat": _LAB,
    "internvl2_5": (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    ),
    "vicuna_v1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions."
    ),
}
"""What the official code has the published models be told, by template; part of what they were trained on."""


def marks_of(template: Template) -> list[str]:
    """Return the tokens that steer a conversation: they are one token each, in every tokenizer."""
    texts = (template.system, template.human, template.assistant, template.human_end, template.end)
    found = [mark for text in texts for mark in re.findall(r"<\|\w+\|>", text)]
    return list(dict.fromkeys([*found, template.end]))


_LLAMA_3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CONTROL_TOKENS = tuple(
    dict.fromkeys(
        [mark for template in TEMPLATES.values() for mark in marks_of(template)]
        + [IMAGE, IMG_START, IMG_END, IMG_CONTEXT, "<s>", "</s>", "<|endoftext|>", *_LLAMA_3]
    )
)
"""What nobody may say in a conversation, whichever model it is for: it would begin or end a turn, or stand for a
picture."""


def control_token_in(text: str, others: Sequence[str] = ()) -> str | None:
    """Return the first token in a text that would steer the model, None where there is none.

    Args:
        text: What somebody says.
        others: Tokens that steer this very model, beside those that nobody may say.
    """
    return next((token for token in (*CONTROL_TOKENS, *others) if token in text), None)


def without_control_tokens(text: str, others: Sequence[str] = ()) -> str:
    """Return a text without tokens that would steer the model, also those that leaving out another one makes."""
    while token := control_token_in(text, others):
        text = text.replace(token, "")
    return text


def template_named(name: str) -> Template:
    """Return a template by its official name.

    Raises:
        TemplateError: There is none; the message lists those there are.
    """
    if name not in TEMPLATES:
        raise TemplateError(f"no conversation template {name!r}; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def pieces(
    name: str, system_message: str, questions: Sequence[str], answers: Sequence[str]
) -> list[tuple[str, bool]]:
    """Return the rendered conversation as (text, whether it is learned).

    One question more than answers leaves the prompt open for the model to go on.

    Raises:
        TemplateError: Questions and answers do not alternate.
    """
    template = template_named(name)
    if len(questions) - len(answers) not in (0, 1):
        raise TemplateError(f"{len(questions)} questions and {len(answers)} answers do not alternate")
    clean = str.strip if template.strip else str
    # The space of ": " belongs to the answer's side, in training as in a prompt that is left open.
    opener = template.opener.rstrip()
    lead = template.opener[len(opener) :]
    out = [(template.system.format(system_message=system_message) + template.system_end, False)]
    for number, question in enumerate(questions):
        text = template.human + template.opener + clean(question) + template.human_end + template.assistant
        out.append((text + opener, False))
        if number < len(answers):
            out.append((lead + clean(answers[number]) + template.end, True))
            out.append((template.gap, False))
    return [(text, learned) for text, learned in out if text]


def render(name: str, system_message: str, questions: Sequence[str], answers: Sequence[str]) -> str:
    """Return the whole text of a conversation."""
    return "".join(text for text, _ in pieces(name, system_message, questions, answers))


def place_video(question: str, frames: int) -> str:
    """Return a question whose `<video>` is replaced by that many numbered pictures, one a line.

    Raises:
        TemplateError: It names no video, or more than one.
    """
    if question.count(VIDEO) != 1:
        raise TemplateError(f"{question.count(VIDEO)} {VIDEO} placeholders for one video")
    lines = "".join(f"Frame-{number}: {IMAGE}\n" for number in range(1, frames + 1))
    return question.replace(f"{VIDEO}\n", lines).replace(VIDEO, lines)


def place_images(questions: Sequence[str], tokens_per_image: Sequence[int]) -> list[str]:
    """Return the questions with each `<image>` replaced by as many context tokens as its picture has.

    A conversation about one picture that names it nowhere gets it in front of the first
    question, as the official code does.

    Raises:
        TemplateError: Placeholders and pictures differ in number.
    """
    found = sum(question.count(IMAGE) for question in questions)
    texts = list(questions)
    if found == 0 and len(tokens_per_image) == 1 and texts:
        texts[0], found = f"{IMAGE}\n{texts[0]}", 1
    if found != len(tokens_per_image):
        raise TemplateError(f"{found} {IMAGE} placeholders for {len(tokens_per_image)} pictures")
    counts = iter(tokens_per_image)
    for number, text in enumerate(texts):
        head, *rest = text.split(IMAGE)
        texts[number] = head + "".join(IMG_START + IMG_CONTEXT * next(counts) + IMG_END + piece for piece in rest)
    return texts


def encode_conversation(
    encode: Encode,
    name: str,
    system_message: str,
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    tokens_per_image: Sequence[int] = (),
    context_length: int | None = None,
    bos_token_id: int | None = None,
    steering: Sequence[str] = (),
) -> tuple[list[int], list[int]]:
    """Return (input_ids, labels), both of shape (tokens,); labels are IGNORE where nothing is learned.

    Args:
        encode: Text to token ids; special tokens in the text must come out whole, nothing is added.
        name: Name of a template.
        system_message: What the system turn says; may be empty.
        questions: Human turns.
        answers: Assistant turns, as many as questions or one less.
        tokens_per_image: Context tokens of each picture, in the order of their placeholders.
        context_length: Most tokens; the right end is cut off.
        bos_token_id: Put in front, not learned, where the template asks for it.
        steering: Tokens that steer this very model, beside those that nobody may say.

    Raises:
        TemplateError: Somebody says a token that steers the model; or placeholders do not fit, or
            the cut would go through a picture, or would leave nothing to learn.
    """
    for said in (system_message, *questions, *answers):
        if token := control_token_in(said.replace(IMAGE, ""), steering):
            raise TemplateError(f"{token} cannot be said in a conversation; leave it out")
    ids: list[int] = []
    labels: list[int] = []
    if template_named(name).bos and bos_token_id is not None:
        ids, labels = [bos_token_id], [IGNORE]
    last_picture = 0
    for text, learned in pieces(name, system_message, place_images(questions, tokens_per_image), answers):
        found = encode(text)
        ids += found
        labels += found if learned else [IGNORE] * len(found)
        if IMG_END in text:
            last_picture = len(ids)
    if context_length is not None and len(ids) > context_length:
        if last_picture > context_length:
            raise TemplateError(
                f"a picture does not fit into {context_length} tokens; raise context_length or use fewer tiles"
            )
        ids, labels = ids[:context_length], labels[:context_length]
        if answers and all(label == IGNORE for label in labels):
            raise TemplateError(f"no answer begins within {context_length} tokens; raise context_length")
    return ids, labels
