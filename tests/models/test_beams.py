"""Beam search writes what transformers writes, and what trying everything finds."""

import pytest
import torch
from decoder_configs import PHI3, phi3_config
from generative_world import make_model
from transformers import Phi3ForCausalLM

from models.official_config import text_of
from models.phi3_names import llama_from_phi3
from models.qllama import LlamaForCausalLM
from models.renaming import fill

END = 2


def pair() -> tuple[LlamaForCausalLM, Phi3ForCausalLM]:
    """Return ours and transformers' with the same weights, large enough that tokens differ much in likelihood."""
    torch.manual_seed(7)
    theirs = Phi3ForCausalLM(phi3_config(PHI3)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.ndim == 2:
                parameter.mul_(7)
        theirs.lm_head.weight[END].mul_(2)  # so that texts end, some early and some late
    ours = LlamaForCausalLM(text_of(PHI3)).eval()
    fill(ours, llama_from_phi3(theirs.state_dict()), "Phi-3")
    return ours, theirs


def trimmed(row: list[int]) -> list[int]:
    return row[: row.index(END) + 1] if END in row else row


@pytest.mark.parametrize("least", [0, 8])
def test_five_beams_write_what_transformers_writes_and_rows_do_not_disturb_each_other(least: int) -> None:
    ours, theirs = pair()
    ids = torch.randint(3, 39, (12, 3), generator=torch.Generator().manual_seed(1))
    settings = {"num_beams": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": END}
    wanted = theirs.generate(ids, max_new_tokens=30, min_new_tokens=least, **settings)[:, 3:].tolist()
    found = ours.generate(ids, 30, END, min_new_tokens=least, beams=5).tolist()
    assert [trimmed(row) for row in found] == [trimmed(row) for row in wanted]
    lengths = {len(trimmed(row)) for row in found}
    assert len(lengths) > 3 and min(lengths) > least
    greedy = ours.generate(ids, 30, END, min_new_tokens=least).tolist()
    assert greedy != found and all(len(trimmed(row)) > least for row in greedy)
    plain = {**settings, "num_beams": 1}
    wanted = theirs.generate(ids, max_new_tokens=30, min_new_tokens=least, **plain)[:, 3:].tolist()
    assert [trimmed(row) for row in greedy] == [trimmed(row) for row in wanted]


def test_with_room_for_every_text_the_likeliest_per_token_is_found() -> None:
    model = make_model().qllama.eval()
    prompt, words = torch.tensor([[5, 9]]), model.config.vocab_size
    found = model.generate(prompt, 2, END, beams=words)[0].tolist()
    rows = torch.cartesian_prod(torch.arange(words), torch.arange(words))
    with torch.no_grad():
        likely = model(torch.cat([prompt.expand(len(rows), -1), rows], dim=1)).log_softmax(dim=-1)
    scores = likely[:, 1:3].gather(2, rows[..., None])[..., 0]
    best = scores.mean(dim=1).where(rows[:, 0] != END, scores[:, 0]).argmax()
    assert trimmed(found) == trimmed(rows[best].tolist())


def test_captions_of_several_pictures_are_those_of_each_alone() -> None:
    model = make_model().eval()
    vision = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(2)) * 3
    prompt = torch.tensor([[1, 7, 9]])
    together = model.caption(vision, prompt.expand(3, -1), 6, END, min_new_tokens=2, beams=3).tolist()
    alone = [model.caption(one[None], prompt, 6, END, min_new_tokens=2, beams=3)[0].tolist() for one in vision]
    assert [trimmed(row) for row in together] == [trimmed(row) for row in alone]
    assert len({tuple(row) for row in together}) > 1


def test_beams_need_an_end() -> None:
    with pytest.raises(ValueError, match="2 beams compare texts that have ended; say which token ends one"):
        make_model().qllama.generate(torch.tensor([[5]]), 2, beams=2)
