"""What the columns of the disc table mean: the one source of its order, its data dictionary and its JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ivdjax.volume import PFIRRMANN_GRADES

SCHEMA_VERSION = 2
"""Of the disc JSON; rises when a key changes its meaning or goes. docs/measures.md has its history."""

SCHEMA_FILE = "discs.schema.json"
"""Name of the published schema, a file beside this one."""


@dataclass(frozen=True)
class Column:
    """One column of the disc table.

    Attributes:
        name: as in CSV and JSON, with the unit where it has one.
        unit: empty for a plain number or a text.
        meaning: in a sentence.
        empty_when: why a cell may be empty (null in JSON); empty where there always is a value.
        kind: of value.
        bounds: smallest and largest value; None for no limit.
    """

    name: str
    unit: str
    meaning: str
    empty_when: str = ""
    kind: Literal["number", "integer", "text"] = "number"
    bounds: tuple[float | None, float | None] = (None, None)


_POSITIVE = (0, None)
_SHARE = (0, 1)
_CUT = "the field of view cuts the disc"
_NO_AXIS = "the mid-sagittal part is cut"
_NO_SECTION = "the mid-sagittal part is cut, or may be out of view"
_NO_WIDTH = "the disc is cut at left, right, top or bottom, or beside its widest part"
_NO_SIGNAL = "no voxel of the disc has a finite value"

_NO_GRADE = ("the model estimates no grades or was told not to, the image is not known to be T2-weighted without fat "
             "suppression, the outline is unsure, or a measure that it rests on is missing")  # fmt: skip
_NO_BODY = "no whole vertebra above, or the model outlines discs alone"
_NO_BODIES = "a vertebra beside the disc is not outlined whole (the sacrum never is)"
_NOT_T2 = "the image is not known to be T2-weighted without fat suppression, or the tissue is not outlined"
_NO_CANAL = "the canal is not outlined at this level, or the field of view cuts it"

WEAR_COLUMNS: tuple[Column, ...] = (
    Column("nucleus_signal", "", "Mean signal of the nucleus, the coils' bias taken out.", _NOT_T2),
    Column("annulus_signal", "", "The same of the annulus.", _NOT_T2),
    Column("marrow_signal", "", "The same of the marrow beside the disc, a median.", _NOT_T2),
    Column("csf_signal", "", "90th percentile of the canal's signal within 30 mm along it.", _NOT_T2),
    Column("nucleus_over_csf", "", "Signal of the nucleus over that of the fluid in the canal.", _NOT_T2),
    Column("nucleus_over_marrow", "", "The same over that of the marrow.", _NOT_T2),
    Column("nucleus_over_annulus", "", "The same over that of the annulus.", _NOT_T2),
    Column("disc_body_height_index", "", "Mean height of the disc over the mean middle height of the vertebral bodies "
           "beside it.", "no vertebra beside the disc is outlined whole", "number", _POSITIVE),
    Column("posterior_overhang_mm", "mm", "How far the disc reaches behind the line between the neighbouring end "
           "plates' back corners; negative: it ends in front of it.", _NO_BODIES),
    Column("slip_mm", "mm", "How far the vertebra above stands in front of the one below; negative: behind it.",
           _NO_BODIES),
    Column("slip_percent", "%", "The same, of the depth of the end plate below.", _NO_BODIES),
    Column("canal_ap_mm", "mm", "Antero-posterior diameter of the canal at the disc.", _NO_CANAL, "number", _POSITIVE),
    Column("canal_area_mm2", "mm²", "Area of the canal there, at right angles to it.", _NO_CANAL, "number", _POSITIVE),
    Column("body_canal_ap_mm", "mm", "Antero-posterior diameter of the canal at the middle of the vertebra above.",
           _NO_CANAL, "number", _POSITIVE),
    Column("body_canal_area_mm2", "mm²", "Area of the canal there.", _NO_CANAL, "number", _POSITIVE),
    Column("body_anterior_height_mm", "mm", "Height of the vertebral body above, over 10 to 30 % of its depth from the "
           "front.", _NO_BODY, "number", _POSITIVE),
    Column("body_middle_height_mm", "mm", "The same over 40 to 60 %.", _NO_BODY, "number", _POSITIVE),
    Column("body_posterior_height_mm", "mm", "The same over 70 to 90 %.", _NO_BODY, "number", _POSITIVE),
    Column("body_height_ratio", "", "Anterior over posterior height of that body.", _NO_BODY, "number", _POSITIVE),
    Column("body_depth_mm", "mm", "Mean length of that body's end plates.", _NO_BODY, "number", _POSITIVE),
    Column("segmental_angle_deg", "°", "Angle between the upper end plates of the vertebrae above and below; positive: "
           "lordosis. At L5/S1 the lower face of the disc stands for the sacrum.", _NO_BODIES, "number", (-180, 180)),
)  # fmt: skip
"""What is measured where a model outlines vertebrae and canal too (`ivdjax.discs.degeneration`)."""

GRADE_COLUMNS: tuple[Column, ...] = (
    Column("pfirrmann_grade", "", "Estimate of the Pfirrmann grade: half of the probability lies at or below it. No "
           "diagnosis.", _NO_GRADE, "number", (1, 5)),
    Column("pfirrmann_expected", "", "Mean of the grades, each counted by its probability.", _NO_GRADE, "number",
           (1, 5)),
    *(Column(f"pfirrmann_probability_{grade}", "", f"Probability of grade {grade}.", _NO_GRADE, "number", _SHARE)
      for grade in PFIRRMANN_GRADES),
)  # fmt: skip
"""What is estimated of T2-weighted images by models that hold the numbers for it (`ivdjax.discs.grades`)."""

COLUMNS: tuple[Column, ...] = (
    Column("level", "", "Number of the disc, counted upward from 1 = L5/S1.", "", "integer", (1, None)),
    Column("level_name", "", "Anatomical name of the level.", "", "text"),
    Column("level_confidence", "", "Probability of the level in the program's model of a spine, 0 to 1.", "",
           "number", _SHARE),
    Column("outline_confidence", "", "Dice, 0 to 1, that the outline is expected to have with a careful one.",
           "the model predicts none", "number", _SHARE),
    Column("centroid_x_mm", "mm", "Centroid of the part in view, world coordinate to the patient's right (RAS+)."),
    Column("centroid_y_mm", "mm", "The same, to the front."),
    Column("centroid_z_mm", "mm", "The same, upward."),
    Column("volume_mm3", "mm³", "Number of the disc's voxels times their volume.", _CUT, "number", _POSITIVE),
    Column("volume_in_view_mm3", "mm³", "The same of the part in view; equal to it for a whole disc.", "", "number",
           _POSITIVE),
    Column("cut_at", "", "Borders of the field of view that the disc reaches, of left, right, front, back, top and "
           "bottom, separated by spaces.", "the disc is whole (an empty text in JSON)", "text"),
    Column("anterior_height_mm", "mm", "Mean height over 10 to 30 % of the AP width, counted from the front.",
           _NO_SECTION, "number", _POSITIVE),
    Column("middle_height_mm", "mm", "Mean height over 40 to 60 % of it.", _NO_SECTION, "number", _POSITIVE),
    Column("posterior_height_mm", "mm", "Mean height over 70 to 90 % of it.", _NO_SECTION, "number", _POSITIVE),
    Column("disc_height_index", "", "Mean of the three heights over the AP width.", _NO_SECTION, "number", _POSITIVE),
    Column("ap_width_mm", "mm", "Length from front to back in the mid-sagittal part.", _NO_SECTION, "number",
           _POSITIVE),
    Column("lateral_width_mm", "mm", "Widest extent from side to side, of a part 6 mm long in the middle half of the "
           "AP width.", _NO_WIDTH, "number", _POSITIVE),
    Column("wedge_angle_deg", "°", "Angle between the lines through the upper and the lower face; positive: open to "
           "the front.", _NO_SECTION, "number", (-180, 180)),
    Column("tilt_deg", "°", "Long axis against the world's antero-posterior axis, seen from the side; negative: the "
           "front edge is lower.", _NO_AXIS, "number", (-90, 90)),
    Column("fat_fraction", "", "Sum of fat over sum of fat and wat in view; of magnitudes, not a proton density. 0 to "
           "1 where no signal is negative.", "there are not both channels, or their sum is not positive"),
    *WEAR_COLUMNS,
    *GRADE_COLUMNS,
)  # fmt: skip
"""The columns that every disc table has, in this order."""

ERROR_ENDING = "_se"
"""Of a column's name: the standard error of the column before it, in the same unit, where it is known."""

CHANNEL_COLUMNS: tuple[Column, ...] = (
    Column("<channel>_mean", "", "Mean of the raw signal over all voxels in view; one column for each channel.",
           _NO_SIGNAL),
    Column("<channel>_median", "", "Median of the same.", _NO_SIGNAL),
    Column("<channel>_sd", "", "Standard deviation of the same, over the voxels (divided by their number).",
           _NO_SIGNAL, "number", _POSITIVE),
)  # fmt: skip
"""The columns that follow, of each channel of the case: `<channel>` stands for its name."""


def dictionary_table() -> str:
    """The data dictionary in markdown, one row for each column."""
    lines = ["| column | unit | what it is | empty when |", "|---|---|---|---|"]
    for column in (*COLUMNS, *CHANNEL_COLUMNS):
        empty = column.empty_when or "never"
        lines.append(f"| `{column.name}` | {column.unit} | {column.meaning} | {empty} |")
    lines.append("| `<column>_se` | as it | Standard error of that column's value. | it is not known |")
    return "\n".join(lines) + "\n"


def disc_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of the disc JSON; `discs.schema.json` beside this file holds it.

    A disc holds the columns of the table and nothing else. Beside the table, the document may hold any context: keys
    that are known have their types here, further ones are allowed.
    """
    text = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ivdjax:discs:{SCHEMA_VERSION}",
        "title": f"Discs of one case, version {SCHEMA_VERSION}",
        "type": "object",
        "required": ["schema_version", "case", "verdict", "reasons", "discs"],
        "properties": {
            "schema_version": {"const": SCHEMA_VERSION},
            "case": text | {"description": "Name of the case."},
            "verdict": {"enum": ["ok", "review"], "description": "Whether a person should look at the result."},
            "reasons": {"type": "array", "items": text, "description": "For the verdict, in plain words."},
            "probability_wrong": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": 1,
                "description": "That a level is wrong or a disc in view is missing.",
            },
            "remarks": {"type": "array", "items": text, "description": "Worth knowing; they decide nothing."},
            "spine": {"type": "object", "description": "Lordosis in degrees, with standard errors."},
            "not_measured": {"type": "object", "description": "Why a measure is null: by level, then by its name."},
            "findings": {"type": "array", "items": text, "description": "Of the spine: a transitional vertebra."},
            "assumption": text | {"description": "What every level rests on."},
            "discs": {"type": "array", "items": {"$ref": "#/$defs/disc"}, "description": "From the lowest level up."},
            "warnings": {"type": "array", "items": text, "description": "Remarks on reading the input."},
            "input": {"type": "object", "description": "Source and checksum of each channel."},
            "model": {"type": "object", "description": "Name and checksums of the model."},
            "overrides": {"type": "array", "items": text, "description": "Settings of the model that were changed."},
            "anchor": {"type": ["object", "null"], "description": "A disc's level that the user has pinned."},
            "deleted_mm": {"type": "array", "description": "A point in each disc that the user has deleted, RAS+ mm."},
            "corrections": {"type": "array", "items": text, "description": "What people have decided about the case."},
            "decisions": {"type": "integer", "description": "How many decisions the result follows or took back."},
            "ivdjax_version": text | {"description": "Version of the program."},
            "codes": {"type": "object", "description": "Levels and measures in coded terms: value, scheme, meaning."},
            "grades": {
                "type": ["string", "null"],
                "description": "What an estimated grade is worth, where there is one.",
            },
            "repeatability": {"type": ["object", "null"], "description": "How well the model's measures repeat."},
        },
        "$defs": {
            "disc": {
                "type": "object",
                "required": [column.name for column in COLUMNS if column not in (*WEAR_COLUMNS, *GRADE_COLUMNS)],
                "properties": {column.name: _value_schema(column) for column in COLUMNS},
                "patternProperties": {
                    f"^.+_{column.name.rpartition('_')[2]}$": _value_schema(column) for column in CHANNEL_COLUMNS
                }
                | {f"^.+{ERROR_ENDING}$": {"type": ["number", "null"], "minimum": 0, "description": "Standard error."}},
                "additionalProperties": False,
            }
        },
    }


def _value_schema(column: Column) -> dict[str, Any]:
    words = f"{column.meaning} Unit: {column.unit}." if column.unit else column.meaning
    if column.kind == "text":
        return {"type": "string", "description": words}
    schema: dict[str, Any] = {"type": [column.kind, "null"] if column.empty_when else column.kind}
    for key, bound in zip(("minimum", "maximum"), column.bounds, strict=True):
        if bound is not None:
            schema[key] = bound
    return schema | {"description": words}
