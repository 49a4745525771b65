"""Why a model, a data set or a build was refused.

The classes that a child may raise are found again by their `code` in the parent: see
`from_answer`.
"""

from modelfleet_server.kit.errors import (
    AppError,
    ConflictError,
    InvalidError,
    NotFoundError,
)


class ModelError(InvalidError):
    """The model file is refused. Subclasses say at which check."""

    code = "model-refused"


class NotOnnxError(ModelError):
    """Not an ONNX file, or one that is damaged."""

    code = "not-onnx"


class ExternalDataError(ModelError):
    """External data is missing, too short, or outside the model's folder."""

    code = "external-data"


class OpsetError(ModelError):
    """Made for an opset, IR version or operator domain that is not on the list."""

    code = "unsupported-opset"


class OperatorError(ModelError):
    """Uses an operator that its opset does not have."""

    code = "unknown-operator"


class ModelSizeError(ModelError):
    """Larger, or with more nodes or deeper, than is allowed."""

    code = "model-too-large"


class SchemaError(ModelError):
    """Inputs or outputs that no device could be told of."""

    code = "model-schema"


class ModelRunError(ModelError):
    """Does not load, fails, never ends, or gives no finite numbers on plain inputs."""

    code = "model-run"


class DatasetError(InvalidError):
    """An evaluation or calibration set that does not fit the model."""

    code = "data-set-refused"


class BuildError(InvalidError):
    """A recipe did not make a usable variant of this master."""

    code = "build-failed"


class ParityError(BuildError):
    """No candidate answers as its master does, within the profile's budget."""

    code = "parity-gate"


class ChildError(InvalidError):
    """A child ended without an answer: crashed, killed, or over a limit."""

    code = "build-child-died"


class UnknownProfileError(InvalidError):
    """There is no recipe for this profile."""

    code = "unknown-profile"


class ProfileError(InvalidError):
    """An operator's profile that cannot be used."""

    code = "profile-refused"


class BuildNotFoundError(NotFoundError):
    """There is no such build."""

    code = "build-not-found"


class MoveError(ConflictError):
    """This cannot be done to a build in this state."""

    code = "build-state"


class NotGatedError(ConflictError):
    """There is no gate to override: the build did not fail by it."""

    code = "build-not-gated"


_ANSWERS: dict[str, type[InvalidError]] = {
    kind.code: kind
    for kind in (
        ModelError,
        NotOnnxError,
        ExternalDataError,
        OpsetError,
        OperatorError,
        ModelSizeError,
        SchemaError,
        ModelRunError,
        DatasetError,
        BuildError,
        ParityError,
        ChildError,
    )
}


def to_answer(error: AppError) -> dict[str, str]:
    """Return what a child tells its parent of `error`."""
    return {"code": error.code, "what": error.what, "hint": error.hint}


def from_answer(answer: dict[str, str]) -> InvalidError:
    """Return the error that a child told of."""
    return _ANSWERS[answer["code"]](answer["what"], answer["hint"])
