"""What a user is told, without a traceback."""


class RunError(Exception):
    """Something a user can mend; the message names the value and the remedy."""


class UsageError(RunError):
    """The command line names something that does not exist; exit code 2."""
