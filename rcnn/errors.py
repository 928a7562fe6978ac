"""The library's own exceptions, where several modules raise the same one."""


class CheckpointError(ValueError):
    """A file that cannot be read as a checkpoint, or that does not fit the model; the message says what is wrong."""
