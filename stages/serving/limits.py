"""What one request may cost; every limit is named in the sentence that refuses what is over it."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Bounds on what comes in and what goes on to the engine; our own choices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes: int = Field(default=48_000_000, ge=1, description="A whole request, pictures in base64 included.")
    picture_bytes: int = Field(default=20_000_000, ge=1, description="One picture's file.")
    picture_pixels: int = Field(default=25_000_000, ge=1, description="One picture, width times height.")
    all_pixels: int = Field(default=50_000_000, ge=1, description="All pictures of one conversation, in pixels.")
    pictures: int = Field(default=8, ge=1, description="Pictures of one conversation.")
    messages: int = Field(default=64, ge=1, description="Turns of one conversation, the system's included.")
    text_characters: int = Field(default=32_000, ge=1, description="All text of one conversation.")
    answer_tokens: int = Field(default=1024, ge=1, description="Most tokens of an answer that may be asked for.")
    usual_answer_tokens: int = Field(default=512, ge=1, description="Most tokens when nobody says.")
    at_once: int = Field(default=8, ge=1, description="Requests being answered or waiting for the engine.")
    answer_seconds: float = Field(default=600, gt=0, description="One answer, from its first token's wait on.")
    fetch_seconds: float = Field(default=15, gt=0, description="Fetching one picture from the web.")
    allow_hosts: tuple[str, ...] = Field(default=(), description="host:port of pictures that may be private.")
