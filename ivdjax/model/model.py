"""The *model*: one self-describing folder that inference needs, and nothing else.

`model.json` says what the model is (configuration, channels, networks, training data, figures, checksum),
`weights.npz` holds the parameters, `reference.npz` the reference mask for registration, README.md is the model card.
Loading runs no code from the folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ivdjax import __version__
from ivdjax.config import Config, ConfigError, parse_config, parse_stored, plain_config
from ivdjax.discs.grades import grader_of
from ivdjax.discs.outline import calibrated
from ivdjax.discs.verdict import judgement_of
from ivdjax.imaging.folders import whole_folder, write_whole
from ivdjax.model.model_card import model_card
from ivdjax.model.shipped import model_folder
from ivdjax.model.weights import Parameters, read_arrays, read_weights, sha256_of, write_weights
from ivdjax.schema import parse_yaml
from ivdjax.volume import LabelMap, UserError

SCHEMA_VERSION = 2
KIND = "ivdjax model"
_OWN_FACTS = {
    "kind", "schema_version", "ivdjax_version", "name", "channels", "networks", "precision", "weights_sha256",
    "reference_sha256", "credit", "licence", "synthetic", "config", "validation", "training", "limits", "descent",
    "held_out_seen_before",
}  # fmt: skip
DESCRIPTION, WEIGHTS, REFERENCE, CARD = "model.json", "weights.npz", "reference.npz", "README.md"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model.

    Attributes:
        config: the resolved configuration of its training; its preparation and inference sections serve inference.
        parameters: per network (region, disc, localization) the nested parameters, as NumPy arrays.
        meta: further facts that JSON can hold. Given by whoever trains: `validation` (figures by name), `training`
            (steps, seconds ...), `limits` (sentences). A model that was read has everything of `model.json` here,
            `weights_sha256` and `ivdjax_version` among it.
        reference: numbered discs of one training case, to be registered to what is found (paper, section 2.2); None
            for a model without.
    """

    config: Config
    parameters: dict[str, Parameters]
    meta: Mapping[str, Any] = field(default_factory=dict)
    reference: LabelMap | None = None

    @property
    def name(self) -> str:
        """The name of the configuration it was trained with."""
        return self.config.name

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels it expects, in order."""
        return self.config.data.channels

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks it holds, sorted."""
        return tuple(sorted(self.parameters))

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights' file; empty for a model that was not read from a folder."""
        return str(self.meta.get("weights_sha256", ""))


def write_model(folder: str | Path, model: Model, precision: str = "float32") -> str:
    """Writes the model's folder, whole or not at all, in place of an older one; gives the weights' SHA-256.

    The same model gives the same bytes in every file.

    Raises:
        UserError: `folder` exists and is not a model, so that replacing it might destroy something else.
        ValueError: parameters that cannot be stored (see `write_weights`).
    """
    folder = Path(folder)
    if folder.exists() and not (folder / DESCRIPTION).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not a model: it is not replaced; choose another folder or remove it")
    with whole_folder(folder) as part:
        digest = write_weights(part / WEIGHTS, model.parameters, precision)
        reference = _write_reference(part / REFERENCE, model.reference)
        description = _describe(model, precision, digest, reference)
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        (part / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        (part / CARD).write_text(model_card(description), encoding="utf-8")
    return digest


def read_model(folder: str | Path) -> Model:
    """The model in a folder of `write_model`, or one by its name (`ivdjax.model.shipped`).

    Parameters are float32 whatever the stored precision.

    Raises:
        UserError: there is no such folder, it is no model or an incomplete one, it was written by a newer version,
            its weights or its reference are not those it was written with, or its configuration cannot be used.
    """
    folder = model_folder(folder)
    description = _read_description(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}; the copy is incomplete, copy the whole folder again")
    _check_digest(weights, description["weights_sha256"])
    try:
        parameters = read_weights(weights)
    except (OSError, ValueError) as error:
        raise UserError(f"{weights} cannot be read: {error}; copy the whole folder again") from error
    if sorted(parameters) != sorted(description["networks"]):
        raise UserError(f"{weights} holds the networks {sorted(parameters)}, but {DESCRIPTION} names "
                        f"{sorted(description['networks'])}; copy the whole folder again")  # fmt: skip
    try:
        config = parse_stored(description["config"])
    except ConfigError as error:
        raise UserError(f"{folder / DESCRIPTION}: {error}") from error
    told = description.get("channels", list(config.data.channels))
    if told != list(config.data.channels):
        raise UserError(f"{folder / DESCRIPTION} names the channels {', '.join(told)}, but its configuration has "
                        f"{', '.join(config.data.channels)}; copy the whole folder again")  # fmt: skip
    meta = {key: value for key, value in description.items() if key != "config"}
    return Model(config, parameters, meta, _read_reference(folder, description))


def annotate_model(folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Adds facts that were measured later to a model's description and card; the rest of its folder stays as it is.

    Args:
        folder: of the model.
        facts: by name, as JSON can hold them, such as `repeatability` and `grades`; a fact of that name is
            replaced.

    Raises:
        UserError: as `read_model`; or a fact that the model's own description holds, or with which no model could be
            read.
    """
    folder = model_folder(folder)
    read_model(folder)
    own = facts.keys() & _OWN_FACTS
    if own:
        raise UserError(f"{', '.join(sorted(own))} of {folder} are written with the model and cannot be annotated")
    if wrong := _wrong_fact(facts):
        raise UserError(f"{folder} is not annotated: {wrong}")
    description = _read_description(folder) | dict(facts)
    lacking = [key for key in ("name", "channels", "ivdjax_version") if key not in description]
    if lacking:
        raise UserError(f"{folder / DESCRIPTION} lacks {', '.join(lacking)}; copy the whole folder again")
    try:
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder} is not annotated: a fact is no JSON ({error})") from error
    write_whole(folder / CARD, model_card(description))
    write_whole(folder / DESCRIPTION, text + "\n")


def annotated_facts(model: Model) -> dict[str, Any]:
    """The facts of a model that `annotate_model` has added."""
    return {key: value for key, value in model.meta.items() if key not in _OWN_FACTS}


def _check_digest(path: Path, wanted: str) -> None:
    digest = sha256_of(path)
    if digest != wanted:
        raise UserError(
            f"{path} is damaged or was exchanged: its SHA-256 is {digest[:12]}..., but {DESCRIPTION} says "
            f"{str(wanted)[:12]}...; copy the whole folder again"
        )


def _write_reference(path: Path, reference: LabelMap | None) -> str | None:
    """Writes the reference mask, if there is one; gives its SHA-256."""
    if reference is None:
        return None
    with path.open("wb") as stream:
        np.savez_compressed(stream, labels=reference.array, affine=reference.affine)
    return sha256_of(path)


def _read_reference(folder: Path, description: Mapping[str, Any]) -> LabelMap | None:
    """The reference mask of a model; None where its description names none."""
    wanted = description.get("reference_sha256")
    if wanted is None:
        return None
    path = folder / REFERENCE
    if not path.is_file():
        raise UserError(f"{folder} has no {REFERENCE}; the copy is incomplete, copy the whole folder again")
    _check_digest(path, str(wanted))
    try:
        stored = read_arrays(path, "fu")
        labels, affine = stored["labels"], stored["affine"]
        if labels.dtype != np.uint8 or affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"it must hold uint8 labels and a finite 4 x 4 affine, not {labels.dtype} labels and "
                             f"{affine.tolist()!r:.200}")  # fmt: skip
        return LabelMap(labels, affine.astype(np.float64))
    except (OSError, ValueError, LookupError) as error:
        raise UserError(f"{path} cannot be read: {error}; copy the whole folder again") from error


def override_inference(model: Model, overrides: Sequence[str]) -> Model:
    """The model with other settings of its inference section, each as `inference.key=value` (the value in YAML).

    Raises:
        ConfigError: a key outside of that section, an unknown one, or a value that cannot be used.
    """
    if not overrides:
        return model
    tree = plain_config(model.config)
    for override in overrides:
        key, separator, text = override.partition("=")
        section, _, name = key.partition(".")
        if section != "inference" or not separator or not name:
            raise ConfigError(f"--set takes inference.key=value, not {override!r}; the rest of a model is fixed")
        try:
            tree["inference"][name] = parse_yaml(text) if text else ""  # YAML reads an empty text as null
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error
    return replace(model, config=parse_config(tree))


def _describe(model: Model, precision: str, digest: str, reference: str | None) -> dict[str, Any]:
    data = model.config.data
    return dict(model.meta) | {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "ivdjax_version": __version__,
        "name": model.name,
        "channels": list(model.channels),
        "networks": list(model.networks),
        "precision": precision,
        "weights_sha256": digest,
        "reference_sha256": reference,
        "credit": data.credit,
        "licence": data.licence,
        "synthetic": data.synthetic,
        "config": plain_config(model.config),
    }


def _refuse_constant(word: str) -> None:
    """JSON has no such numbers, though Python reads them."""
    raise ValueError(f"{word} is no JSON")


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder} is not a model: it has no {DESCRIPTION}; give the folder that holds one")
    try:
        description = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}; copy the whole folder again") from error
    if not isinstance(description, dict) or description.get("kind") != KIND:
        raise UserError(f"{path} does not describe an ivdjax model; give the folder of one, such as runs/NAME/model")
    version = description.get("schema_version")
    if type(version) is not int or version < 1:
        raise UserError(f"{path}: schema_version must be a whole number above 0, not {version!r:.100}; copy the whole "
                        "folder again")  # fmt: skip
    if version > SCHEMA_VERSION:
        raise UserError(f"{folder} has schema version {version}, but this ivdjax reads up to {SCHEMA_VERSION}; "
                        "use a newer ivdjax")  # fmt: skip
    missing = [key for key in ("weights_sha256", "networks", "config") if key not in description]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; copy the whole folder again")
    if wrong := _wrong_fact(description):
        raise UserError(f"{path}: {wrong}; copy the whole folder again")
    return description


def _wrong_fact(facts: Mapping[str, Any]) -> str:
    """What is wrong with the first fact that cannot be used; empty where all can."""
    for key, (holds, words) in _FACTS.items():
        if key in facts and not holds(facts[key]):
            return f"{key} must be {words}, not {facts[key]!r:.100}"
    return ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _are_mappings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _are_names(value: Any) -> bool:
    """Whether a value is a list of one or more different texts."""
    return _are_texts(value) and 0 < len(value) == len(set(value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_calibration(value: Any) -> bool:
    """Whether a value can bring expected Dice to the right size (`discs.outline.calibrated`)."""
    try:
        return value is None or (_is_mapping(value) and calibrated([1.0], value) is not None)
    except (ValueError, OverflowError):
        return False


def _is_judgement(value: Any) -> bool:
    try:
        judgement_of(value if _is_mapping(value) else {})
    except ValueError:
        return False
    return True


def _is_grader(value: Any) -> bool:
    try:
        grader_of(value if _is_mapping(value) or value is None else {})
    except ValueError:
        return False
    return True


def _is_repeatability(value: Any) -> bool:
    """Whether a value tells of measures, each a mapping whose smallest detectable change is a number or unknown."""
    if not _is_mapping(value):
        return value is None
    changes = [own.get("smallest_detectable_change") for own in value.values() if isinstance(own, dict)]
    return all(c is None or (type(c) in (int, float) and 0 <= c < 2**63) for c in changes)


_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "text"),
    "ivdjax_version": (_is_text, "text"),
    "precision": (_is_text, "text"),
    "channels": (_are_names, "a list of one or more different names"),
    "networks": (_are_names, "a list of one or more different names"),
    "weights_sha256": (_is_text, "text"),
    "reference_sha256": (lambda value: value is None or _is_text(value), "text or null"),
    "credit": (_is_text, "text"),
    "licence": (_is_text, "text"),
    "synthetic": (lambda value: isinstance(value, bool), "true or false"),
    "training": (_is_mapping, "keys and values"),
    "descent": (_are_mappings, "a list of keys and values"),
    "held_out_seen_before": (_is_mapping, "keys and values"),
    "validation": (_is_mapping, "keys and values"),
    "limits": (_are_texts, "a list of sentences"),
    "config": (_is_mapping, "keys and values"),
    "outline_calibration": (_is_calibration, "keys and values with a scale and a power above 0"),
    "levels": (_is_judgement, "keys and values with confidence, bias and weights (benchmarks/fit_levels.py)"),
    "grades": (_is_grader, "keys and values with features and thresholds (benchmarks/fit_grades.py)"),
    "repeatability": (_is_repeatability, "keys and values, with numbers of 0 or more for smallest_detectable_change"),
}
"""What each fact of a description must be, where it is there, and how that is said."""
