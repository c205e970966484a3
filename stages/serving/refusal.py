"""How a request is turned away: one sentence that says what to do, in the shape that OpenAI's clients read."""

from typing import Any


class Refused(Exception):
    """A request that is not answered; the message goes to whoever asked."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Keep what is said.

        Args:
            status: The HTTP status, 4xx or 5xx.
            message: A sentence: the thing, the fact, the next move.
            code: A word for programs, such as `picture_too_large`.
            param: Which field of the request is meant.
            retry_after_seconds: When asking again may help.
        """
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_seconds = retry_after_seconds

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of an answer, or of the last event of a stream."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer beside the usual ones."""
        found = {"www-authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_seconds is not None:
            found["retry-after"] = str(self.retry_after_seconds)
        return found
