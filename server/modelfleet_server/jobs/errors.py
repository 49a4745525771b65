"""Why a job was refused, failed or stopped."""

from modelfleet_server.kit.errors import AppError, ConflictError, NotFoundError


class JobNotFoundError(NotFoundError):
    """There is no such job."""

    code = "no-such-job"


class MoveError(ConflictError):
    """The job's state does not allow this."""

    code = "job-state"


class LostError(AppError):
    """The processes that ran it ended too often before it did."""

    code = "job-lost"


class DefectError(AppError):
    """The server failed while it worked: a defect, not the input's fault."""

    code = "job-defect"


class CancelledError(AppError):
    """Somebody cancelled it."""

    code = "job-cancelled"


class UnknownKindError(AppError):
    """This worker does not know how to do such a job."""

    code = "job-kind"


class StopRunError(BaseException):
    """This run of a job is to end at once and without a result: it is not an outcome.

    Raised by `Run` where the server stops, the job was cancelled, or another process has
    taken it over. No `except Exception` catches it, and neither does DBOS, which therefore
    writes nothing down.
    """
