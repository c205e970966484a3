"""How a chat model turns what its encoder sees into tokens of its language model: the three published ways."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.config import ChatConfig, InternVLConfig
from models.intern_vit import VisionOutput
from models.layers import Linear
from models.qllama import LlamaForCausalLM, ask_queries


def pixel_unshuffle(
    tokens: Float[Tensor, "tiles tokens width"], cell: int, ps_version: str = "v2"
) -> Float[Tensor, "tiles cells {cell}*{cell}*width"]:
    """Fold cells of `cell` x `cell` neighbouring tokens into one wide token.

    Args:
        tokens: A square grid without class token, row by row, shape (tiles, grid * grid, width).
        cell: Tokens along one side of a cell.
        ps_version: `v2` emits the cells row by row; `v1` transposed, as models before 1.5 were trained.

    Returns:
        Shape (tiles, (grid / cell) ** 2, cell * cell * width).

    Raises:
        ValueError: The tokens are no square grid that divides into cells.
    """
    tiles, count, width = tokens.shape
    grid = round(count**0.5)
    if grid * grid != count or grid % cell:
        raise ValueError(f"{count} tokens are no square grid that divides into cells of {cell} x {cell}")
    side = grid // cell
    cells = tokens.view(tiles, side, cell, side, cell, width).permute(0, 1, 3, 2, 4, 5)
    if ps_version == "v1":
        cells = cells.transpose(1, 2)
    return cells.reshape(tiles, side * side, cell * cell * width)


def two_layers(seen: int, width: int) -> nn.Sequential:
    """Return LLaVA's connector (arXiv:2310.03744, section 3.2): two layers around a GELU."""
    return nn.Sequential(Linear(seen, width), nn.GELU(), Linear(width, width))


class Connected(nn.Module):
    """A module with a connector, whose weights lie directly in it under the published names.

    unshuffle_mlp: `mlp1` alone, with a norm in front (from 1.1 on; arXiv:2404.16821, section 3.1).
    mlp: `mm_projector` (InternVL-Chat-V1-0 of LLaVA's code).
    two_mlp: `mlp1` for the picture's tokens and `mlp2` for the queries of QLLaMA, which lie in `query_tokens` and
    `qllama` (arXiv:2312.14238, section 3.4).
    """

    def _connect(self, config: ChatConfig) -> None:
        """Allocate the connector of a configuration."""
        seen, width = config.vision.hidden_size, config.text.hidden_size
        if config.connector == "unshuffle_mlp":
            wide = seen * config.cell**2
            self.mlp1 = nn.Sequential(nn.LayerNorm(wide), *two_layers(wide, width))
        elif config.connector == "mlp":
            self.mm_projector = two_layers(seen, width)
        else:
            towers = config.towers
            assert isinstance(towers, InternVLConfig)
            text = towers.text
            self.query_tokens = nn.Parameter(torch.randn(1, towers.num_query_token, text.hidden_size) * 0.02)
            self.qllama = LlamaForCausalLM(text, seen, towers.cross_attention_frequency)
            self.mlp1, self.mlp2 = two_layers(seen, width), two_layers(text.hidden_size, width)

    def connector_parts(self) -> dict[str, nn.Module]:
        """Return the trained parts of the connector by name; the queries and QLLaMA are none of it."""
        return {name: part for name, part in self.named_children() if name in ("mlp1", "mlp2", "mm_projector")}

    def _shown(self, seen: VisionOutput, config: ChatConfig) -> Float[Tensor, "tiles places text_width"]:
        """Return what the language model sees of tiles; the class token is never shown.

        The queries look at what the whole encoder gives, and stand before the picture's tokens, which are those of
        `select_layer`, the one hidden state in `seen`.
        """
        (selected,) = seen.hidden_states
        tokens = selected[:, 1:]
        if config.connector == "unshuffle_mlp":
            return torch.as_tensor(self.mlp1(pixel_unshuffle(tokens, config.cell, config.ps_version)))
        if config.connector == "mlp":
            return torch.as_tensor(self.mm_projector(tokens))
        asked, _ = ask_queries(self.qllama.model, self.query_tokens, seen.last_hidden_state)
        return torch.cat([self.mlp2(asked), self.mlp1(tokens)], dim=1)
