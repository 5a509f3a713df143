"""How a step fails: one small tree with stable types, translated to Temporal in one place."""


class StepFailed(Exception):
    """The step cannot succeed as it stands; trying again changes nothing."""

    retryable = False

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message


class StepDeferred(StepFailed):
    """The step may succeed later; the node's `retry` says how often to try."""

    retryable = True

    def __init__(self, type_: str, message: str, *, seconds: float | None = None) -> None:
        super().__init__(type_, message)
        self.seconds = seconds
        """How long to wait, where the node's `retry` is not to say."""


class StepPostponed(StepDeferred):
    """The step shall be tried again after exactly so many seconds, however often that happens."""
