"""The error of whatever a stage is given and cannot work with."""


class ManifestError(RuntimeError):
    """An artifact is missing or does not hold together; the message names file and next move."""
