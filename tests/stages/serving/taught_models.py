"""A small chat model in a store, with what it says it was taught on."""

from typing import Any

from exporting import make_chat

from infra.storage import Store
from stages.checkpoints import publish
from stages.conversations import Parameters
from stages.manifest import Ledger, Manifest, digest_of
from stages.ref import Ref
from stages.workspace import Output


def taught(store: Store, parameters: Parameters, **shape: Any) -> Manifest:
    """Commit `conversations@w`, and `checkpoints/instruct@w` that was made from them."""
    _, _, first = make_chat(store, **shape)
    given = {"parameters": parameters.model_dump(mode="json"), "inputs": {}}
    output = Output(store, Ref(name="conversations", version="w"), "conversations", given)
    data = output.commit([output.part("a", "b" * 64, Ledger(listed=1, kept=1), {"tar": ("a.tar", b"")})])
    identity = {**first.identity, "inputs": {"conversations": data.digest}}
    output = Output(store, Ref(name="checkpoints/instruct", version="w"), "instruct", identity)
    (part,) = first.parts
    files = {role: (part.facts["names"][role], store.read(first.key(file))) for role, file in part.files.items()}
    return output.commit([publish(output, digest_of(2), files, 1, part.facts)])
