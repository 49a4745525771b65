"""Names of releases on the command line: `demo/digits@1.0.0`."""

from typing import Annotated, NamedTuple

import typer

from modelfleet_manifests.names import split_model
from modelfleet_manifests.semver import Version
from modelfleet_server.cli.client import name
from modelfleet_server.kit.errors import InvalidError

Release = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="demo/digits@1.0.0")]


class Reference(NamedTuple):
    """A version of a model."""

    model: str
    version: str

    @property
    def path(self) -> str:
        """Where the API shows it."""
        namespace, plain_name = split_model(self.model)
        return f"/releases/{name(namespace)}/{name(plain_name)}/{name(self.version)}"

    @property
    def slot(self) -> str:
        """The slot that holds it unless another is named: called like the model."""
        return split_model(self.model)[1]


def parse_reference(text: str) -> Reference:
    """Return the release that a text names.

    Raises:
        InvalidError: It is not written as one.
        BadNameError: The model or the version is not well-formed.
    """
    model, at, version = text.partition("@")
    if not at:
        raise InvalidError(
            f"the release {text!r} has no version", "Write it as demo/digits@1.0.0."
        )
    return check_reference(model, version)


def check_reference(model: str, version: str) -> Reference:
    """Return the reference if model and version are well-formed.

    Raises:
        BadNameError: One of them is not.
    """
    split_model(model)
    Version(version)
    return Reference(model, version)
