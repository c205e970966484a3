"""A chat model behind an OpenAI-compatible door: an existing engine computes, and this decides what reaches it."""
