"""The pipeline file: the model, the data sets, and the arrays to keep.

A mapping with ``target`` names something to import and call with its ``args``, recursively.
Such targets are followed only when a pipeline file that the user named is executed; a pipeline
that was stored in a cache is provenance, and nothing in it is ever imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from latentood.errors import ConfigError, one_line, suggest
from latentood.latents.facts import Role
from latentood.pipeline.members import Boxes, Cells, MemberUnit, Ood
from latentood.pipeline.overrides import absolute, apply
from latentood.pipeline.sections import Chain, DataSet, Section, Target
from latentood.pipeline.training import Training

Kept = Literal["entropy", "logits", "features"]


class ModelConfig(Target):
    """The network."""

    weights: Path | list[Path] | None = Field(
        None,
        description="`.safetensors`, or a PyTorch file that loads with `weights_only=True`. A list "
        "of files is a deep ensemble: one network for each.",
    )
    output: str | None = Field(
        None,
        description="Field or index of the model's output that holds the logits; of an ensemble, "
        "of the output of each member.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) < 2:
            raise ValueError(
                f"a list must name the files of ≥ 2 members, got {len(value)}; write one file "
                "without the list"
            )
        return value


class Layer(Section):
    """One layer to keep: a dotted module name or a glob, and how to reduce its output."""

    name: str = Field(description="Dotted module name, a glob, or `penultimate`.")
    reduction: str = Field("mean", description="How an output becomes one array per row.")


class Score(Section):
    """One score that needs the model itself, computed beside the logits."""

    name: str = Field(description="Name of the score tap.")
    args: dict[str, Any] = Field(default_factory=dict, description="Its hyperparameters.")


def _short(field: str, item: Any) -> BeforeValidator:
    """Let items of a list be written ``NAME`` or ``{NAME: value of this field}``."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and len(value) == 1 and "name" not in value:
            ((name, given),) = value.items()
            return {"name": name, field: given}
        return value

    def read_all(values: Any) -> Any:
        return [read(value) for value in values] if isinstance(values, list) else values

    return BeforeValidator(read_all, json_schema_input_type=list[item])


class Insert(Section):
    """Noise to put behind a layer of a model that has none of its own."""

    after: str = Field(description="Module whose output gets the noise.")
    kind: Literal["dropout", "dropout2d", "dropblock"] = Field(
        "dropblock",
        description="Single elements, whole channels, or squares of the map (Ghiasi et al. 2018, "
        "eq. 1).",
    )
    p: float = Field(0.4, gt=0, lt=1, description="Probability to drop.")
    block_size: int = Field(5, ge=1, description="Side of the dropped squares (dropblock).")
    shared: bool = Field(True, description="One mask for all channels (dropblock).")


class MonteCarlo(Section):
    """T stochastic passes, or the members of an ensemble in their place, and what to keep."""

    passes: int = Field(
        16,
        ge=2,
        description="T, how many stochastic passes. For `activate: members` it is their number.",
    )
    insert: Insert | None = Field(None, description="Noise to add behind a layer.")
    activate: bool | Literal["functional", "members"] | list[str] = Field(
        False,
        description="Switch on the model's own dropout: `true` all its dropout modules, a list of "
        "globs some of them, `functional` every call of `F.dropout` and its kin. `members`: no "
        "noise; each member of an ensemble is a pass.",
    )
    keep: list[Kept] = Field(
        ["entropy", "logits"],
        min_length=1,
        description="What stays of the passes: entropies (N, D), logits (N, T, C), "
        "features (N, T, D).",
    )
    layers: list[str] | None = Field(
        None, description="Layers (of `layers`) to follow over the passes; default: all that vary."
    )

    @field_validator("activate", mode="wrap")
    @classmethod
    def _known(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError:
            raise ValueError(
                "must be true, functional, members or a list of globs "
                f"({suggest(str(value), ['functional', 'members'])})"
            ) from None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.insert is None and not self.activate:
            raise ValueError(
                "give insert: {after: LAYER, …}, or activate: true to use the model's own dropout"
            )
        if self.insert is not None and self.activate == "members":
            raise ValueError(
                "activate: members must stand without insert, since no noise is run; remove "
                "insert, or activate something else"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a number that was not given where the number of members is the default."""
        raw: dict[str, Any] = dump(self)
        if self.activate == "members" and "passes" not in self.model_fields_set:
            del raw["passes"]
        return raw


class SplitConfig(DataSet):
    """One data set and what it is for."""

    role: Role = Field(description="What the split is for.")
    ood: Ood = Field(Ood(), description="For members: how targets say what is OOD.")


class Extract(Section):
    """How to run; only `dtype`, `keep_bits`, `autocast` and `compile` change what is stored."""

    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        None,
        description="Rows run together. Default: 50 on a CPU, 256 on a GPU; `auto` times a few "
        "sizes first.",
    )
    block_rows: int = Field(1024, ge=1, description="Rows committed together.")
    dtype: Literal["float32", "float16"] = Field("float32", description="Stored dtype.")
    keep_bits: int | None = Field(
        None,
        ge=1,
        le=22,
        description="Mantissa bits kept of features and passes (logits stay exact), so that "
        "they compress; float32 has 23 of them, float16 10. Default: all.",
    )
    autocast: Literal["bfloat16", "float16"] | None = Field(
        None, description="Run the model in mixed precision: faster on a GPU, less exact."
    )
    compile: bool = Field(
        False,
        description="Compile the model between its taps (`torch.compile`): a slow start, then a "
        "forward that may be faster; try it on a part of the rows.",
    )
    device: str = Field("auto", description="`auto`, `cpu`, `cuda`, `cuda:1` …")
    workers: int = Field(0, ge=0, description="Data loading processes.")


class Pipeline(Section):
    """A whole pipeline file."""

    name: str = Field(description="What the results are called.")
    model: ModelConfig
    layers: Annotated[list[Layer], _short("reduction", str | dict[str, str] | Layer)] = Field(
        default_factory=lambda: [Layer(name="penultimate")],
        description="Module names or globs (`*` within a level, `**` across levels); "
        "`{name: reduction}` chooses a reduction. "
        "Default: `penultimate`.",
    )
    head: str | None = Field(None, description="The last linear layer, if it cannot be found.")
    monte_carlo: MonteCarlo | None = None
    scores: Annotated[list[Score], _short("args", str | dict[str, dict[str, Any]] | Score)] = Field(
        [], description="Score taps: `odin`, or `{odin: {epsilon: 0.002}}`."
    )
    transform: Chain | None = Field(
        None, description="What is applied to every input: one target, or a list in order."
    )
    splits: dict[str, SplitConfig] = Field(
        min_length=1, description="The data sets, by name, each with its role."
    )
    unit: MemberUnit = Field(
        "image",
        description="What arrays are kept about beside images: `cell`, the places of a "
        "segmenter's grid, or `box`, the objects that a detector gives.",
    )
    cells: Cells = Field(Cells(), description="The grid of a segmenter.")
    boxes: Boxes = Field(Boxes(), description="The objects of a detector.")
    seed: int = Field(0, description="Decides all random masks.")
    extract: Extract = Extract()
    training: Training | None = Field(None, description="How to train the network.")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key may stand only once in a mapping; otherwise the last one would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines and isinstance(key.value, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} stands in line {lines[key.value]} and again in "
                    f"line {line}; keep one"
                )
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)


_BRANCH = re.compile(r"^(constrained-\w+|literal|function-\w+|int|str|float|bool)$|\[")
"""Parts of a place that pydantic adds for the branches of a union."""

_CLASS = re.compile(r" or instance of \w+$")
"""What pydantic takes beside a mapping, but no file can hold."""


def load_pipeline(path: Path | str, overrides: Iterable[str] = ()) -> Pipeline:
    """Read and check a pipeline file.

    Args:
        path: YAML file. Relative paths inside it are relative to its own folder.
        overrides: ``a.b=value`` each, values in YAML; relative paths are relative to the
            current folder, as everything typed on a command line.

    Raises:
        ConfigError: Unreadable, not a mapping, an unknown key (names the nearest) or a bad value.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name a pipeline file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, got {type(raw).__name__}")
    resolved = absolute(raw, path.resolve().parent)
    for override in overrides:
        apply(resolved, override)
    return parse_pipeline(resolved, source=str(path))


def parse_pipeline(raw: Mapping[str, Any], *, source: str = "pipeline") -> Pipeline:
    """Check a pipeline given as a mapping.

    Raises:
        ConfigError: As in :func:`load_pipeline`.
    """
    try:
        return Pipeline.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """Describe the first problem in one sentence, with the nearest known key for an unknown one."""
    problems = error.errors()  # a misspelt key is also a missing one: report the misspelling
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = [str(part) for part in problem["loc"] if not _BRANCH.search(str(part))]
    if problem["type"] == "extra_forbidden":
        known = _fields_at(where[:-1])
        return f"unknown key {'.'.join(where)!r}; {suggest(where[-1], known)}"
    if problem["type"] == "missing":
        return f"key {'.'.join(where)!r} is missing"
    message = _CLASS.sub("", problem["msg"].removeprefix("Value error, "))
    got = "" if isinstance(problem["input"], dict | list) else f", got {problem['input']!r}"
    return f"{'.'.join(where)}: {message[0].lower()}{message[1:]}{got}"


def _fields_at(where: list[str]) -> list[str]:
    """List the keys that are allowed at a place of the pipeline file."""
    schema = Pipeline.model_json_schema()
    node: Any = schema
    for part in where:
        options = [node, *node.get("anyOf", [])]
        options = [_follow(option, schema) for option in options]
        node = next(
            (o["properties"][part] for o in options if part in o.get("properties", {})),
            next((o[k] for o in options for k in ("additionalProperties", "items") if k in o), {}),
        )
        node = _follow(node if isinstance(node, dict) else {}, schema)
    options = [_follow(option, schema) for option in [node, *node.get("anyOf", [])]]
    return [name for option in options for name in option.get("properties", {})]


def _follow(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref")
    return schema["$defs"][reference.rpartition("/")[2]] if reference else node
