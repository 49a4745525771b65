"""What children of builds are asked, and what they answer.

One protocol in one place: a question is read beside its answer.
"""

import msgspec

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import Schema
from modelfleet_server.builds.choosing import Candidate


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the door found out about a model file.

    Attributes:
        schema: What goes in and comes out.
        opset: Opset of the domain ai.onnx.
        ir: Version of the file format.
        nodes: Nodes once functions are expanded.
        parameters: Numbers in weights and constants.
        operators: Their types, `domain:type` outside of ai.onnx, sorted.
        length: Bytes of the file, without external data.
        external: Files with external data, relative to the model's folder, sorted.
    """

    schema: Schema
    opset: int
    ir: int
    nodes: int
    parameters: int
    operators: list[str]
    length: int
    external: list[str]


class BuiltFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a child wrote into its scratch folder; its name there and for devices."""

    name: str
    length: int


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of two files, `old` None for the empty one.

    Attributes:
        old: The file that is there.
        new: The file that is made from it.
        name: What a graph calls both, where they are its external data.
        old_graph: The model whose external data `old` is, "" where it is no such file.
        new_graph: The model whose external data `new` is, likewise.
    """

    old: str | None
    new: str
    name: str = ""
    old_graph: str = ""
    new_graph: str = ""


class BuiltPatch(msgspec.Struct, frozen=True, kw_only=True):
    """A file that turns one file into another, or why there is none.

    Attributes:
        target: SHA-256 of the file that it makes.
        base: SHA-256 of the file that it is made from; `EMPTY`: the target is packed in it.
        name: In the child's scratch folder.
        length: Bytes of the patch.
        method: How most of the new file is made.
        memory: Bytes that applying it needs.
        digest: SHA-256 of the patch.
        cpu_ms: CPU time that making it and trying it out took.
        problem: Why it could not be made, in words; then nothing else is told.
    """

    target: str = ""
    base: str = ""
    name: str = ""
    length: int = 0
    method: str = ""
    memory: int = 0
    digest: str = ""
    cpu_ms: int = 0
    problem: str = ""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a build made and measured.

    Attributes:
        recipe_name: The recipe that was chosen, as its profile calls it.
        precision: Of its weights: `fp32`, `fp16`, `int8`, `int4`.
        why: Why that one, in words.
        opset: The opset that a runtime must load.
        model: The variant's graph, with its weights in it where none lie beside it.
        beside: Files with its external data, which the graph names.
        golden: Golden inputs and this variant's outputs, an npz.
        atol: Absolute tolerance on golden outputs, a decimal.
        rtol: Relative tolerance on golden outputs, a decimal.
        recipe: Digest of the steps.
        toolchain: Digest of the tools' versions.
        calibrated: Calibration data was used.
        metrics: Measured figures as decimal strings.
        packed: Its files packed, those that get smaller by it.
        problems: What went wrong without failing the build, in words.
        front: All candidates with their figures and verdicts.
        overridden: An approver let it pass the gate.
        unproven: What the profile wants shown and this machine could not show.
    """

    recipe_name: str = ""
    precision: str
    why: str
    opset: int
    model: BuiltFile
    golden: BuiltFile
    atol: str
    rtol: str
    recipe: str
    toolchain: str
    calibrated: bool
    metrics: dict[str, str]
    packed: list[BuiltPatch] = []
    problems: list[str] = []
    front: list[Candidate] = []
    unproven: list[str] = []
    overridden: bool = False
    beside: list[BuiltFile] = []

    @property
    def files(self) -> list[BuiltFile]:
        """All that a device loads, the graph first."""
        return [self.model, *self.beside]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may use.

    Attributes:
        memory_mb: Address space, MiB; `None` is without limit.
        cpu_s: Seconds of CPU time.
        wall_s: Seconds from start to answer.
        file_mb: Size of each file that it writes, MiB.
        files: Open files.
    """

    memory_mb: int | None = 2048
    cpu_s: int = 600
    wall_s: float = 900.0
    file_mb: int = 4096
    files: int = 64


class InspectJob(msgspec.Struct, frozen=True, kw_only=True, tag="inspect"):
    """Check a model file.

    Attributes:
        model: Path of the file.
        packed: Where to write it with its external data in it, if it has any.
    """

    model: str
    packed: str | None = None


class PlainJob(msgspec.Struct, frozen=True, kw_only=True, tag="plain"):
    """Load a model that passed the static checks, and run it on plain inputs."""

    model: str
    schema: Schema


class BuildJob(msgspec.Struct, frozen=True, kw_only=True, tag="build"):
    """Build and measure one variant. Files are written into the working directory.

    Attributes:
        master: Path of the full-precision model.
        evaluation: Path of the evaluation set.
        calibration: Path of the calibration set, if the version has one.
        profile: What to try, and what counts.
        bases: Paths of the files that most devices of the profile have now, by name.
        known: Candidates that were measured in an attempt before, whose choice was
            excluded since: only the next best is built again.
        excluded: Candidates that must not ship, and why: found out elsewhere.
        override: The candidate that an approver let pass the gate, "" for none.
    """

    master: str
    evaluation: str
    calibration: str | None
    profile: Profile
    bases: dict[str, str] = {}
    known: list[Candidate] = []
    excluded: dict[str, str] = {}
    override: str = ""


class VerifyJob(msgspec.Struct, frozen=True, kw_only=True, tag="verify"):
    """Build a variant again and compare.

    Attributes:
        master: Path of the full-precision model.
        calibration: Path of the calibration set, None where none was used.
        variant: Path of the graph in question.
        beside: Names of the other files of the variant, which lie beside it.
        profile: Whose candidates the recipe is among.
        name: What the recipe was called.
        recipe: The digest that the release states.
        toolchain: The digest of tools that the release states.
    """

    master: str
    calibration: str | None
    variant: str
    beside: list[str] = []
    profile: Profile
    name: str
    recipe: str
    toolchain: str


class AnswerJob(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """Answer the first samples of an evaluation set; the answers are written to a file.

    Attributes:
        model: Path of the model.
        evaluation: Path of the evaluation set.
        schema: Of the master.
        samples: So many at most.
        least: So many whatever it takes, if there are as many.
        enough_s: After so many seconds of CPU time no further samples are begun.
        answers: Where the first output goes, as NumPy's npy.
    """

    model: str
    evaluation: str
    schema: Schema
    samples: int
    least: int = 0
    enough_s: float = 60.0
    answers: str


class GradeJob(msgspec.Struct, frozen=True, kw_only=True, tag="grade"):
    """Compare answers to the first samples with those of the master here.

    Attributes:
        master: Path of the master.
        evaluation: Path of the evaluation set.
        schema: Of the master.
        answers: Path of the answers, an npy from elsewhere: untrusted.
    """

    master: str
    evaluation: str
    schema: Schema
    answers: str


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How good answers are beside those of the master.

    Attributes:
        accuracy: By the evaluation set's metric.
        master_accuracy: Of the master, on the same samples.
        disagreements: Samples on which they mean something else.
        samples: That were answered.
    """

    accuracy: float
    master_accuracy: float
    disagreements: int
    samples: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a variant is what its recipe makes.

    Attributes:
        same: Byte for byte.
        audited: Not the same, and every number is what the master's rounds to.
        recipe: The name of the recipe that was repeated.
        digest: Of what it made here, as a release names the files of a variant.
        differences: In words; empty where it is the same.
        against: What the audit found; empty where it was audited, or is the same.
    """

    same: bool
    audited: bool = False
    recipe: str
    digest: str
    differences: list[str] = []
    against: list[str] = []


class WeighJob(msgspec.Struct, frozen=True, kw_only=True, tag="weigh"):
    """Estimate the patches of pairs."""

    pairs: list[Pair]


class PatchJob(msgspec.Struct, frozen=True, kw_only=True, tag="patch"):
    """Make the patches of pairs, into the working directory."""

    pairs: list[Pair]


Job = (
    InspectJob
    | PlainJob
    | BuildJob
    | VerifyJob
    | AnswerJob
    | GradeJob
    | WeighJob
    | PatchJob
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a child reads from its standard input. It ends when `parent` (a pid) does."""

    job: Job
    limits: Limits
    parent: int


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a child's standard output: progress, then a result or an error."""

    progress: tuple[str, int, int] | None = None
    facts: ModelFacts | None = None
    built: Built | None = None
    verdict: Verdict | None = None
    ran: bool = False
    answered: int | None = None
    scores: Scores | None = None
    weights: list[int] | None = None
    patches: list[BuiltPatch] | None = None
    error: dict[str, str] | None = None
