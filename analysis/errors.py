"""The two ways in which a command ends early."""


class InputError(Exception):
    """A file or an argument is not what it should be. One line that says what to do; exit code 2."""


class OutputError(Exception):
    """The machine failed while a result was written (disk full, not allowed). One line; exit code 74."""
