"""The errors of whatever a stage is given and cannot work with."""


class ManifestError(RuntimeError):
    """An artifact is missing or does not hold together; the message names file and next move."""


class Missing(ManifestError):
    """An artifact does not stand. A stage knows no commands; who does, names the one that makes `name`@`version`."""

    def __init__(self, fact: str, name: str, version: str = "") -> None:
        """Keep the fact in words, and what is missing; any version where none is named."""
        super().__init__(fact, name, version)
        self.fact, self.name, self.version = fact, name, version

    def __str__(self) -> str:
        """Return the fact with the next move, where no command is known."""
        return f"{self.fact}; run the stage that makes it first"
