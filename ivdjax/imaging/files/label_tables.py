"""Label tables as text, for the viewers that read them beside a label map: ITK-SNAP, 3D Slicer, BIDS.

A table names each value of a label map and gives it a colour. Its segments are written in rising order of their values,
whatever order they come in.
"""

from __future__ import annotations

from collections.abc import Sequence

from ivdjax.imaging.files.segment import Segment, ordered

_ITKSNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def itksnap_labels(segments: Sequence[Segment]) -> str:
    """The text of an ITK-SNAP label description file; without segments it holds the clear label alone.

    The layout is what ITK-SNAP itself writes (`ColorLabelTable::SaveToFile`): values, colours 0 to 255, opacity 0 to 1,
    two visibility flags and the quoted name.

    Raises:
        ValueError: two segments have one value.
    """
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    for segment in ordered(segments):
        red, green, blue = segment.rgb_bytes
        rows.append(f'  {segment.value:3d}   {red:3d}  {green:3d}  {blue:3d}        1  1  1    "{segment.label}"')
    return _ITKSNAP_HEADER + "\n".join(rows) + "\n"


def slicer_colors(segments: Sequence[Segment]) -> str:
    """The text of a 3D Slicer colour table (.ctbl): index, name, red, green, blue, opacity (0 to 255), a row each.

    Its reader splits at blanks, so that blanks in names become underscores, as 3D Slicer writes them.

    Raises:
        ValueError: two segments have one value.
    """
    rows = ["0 Background 0 0 0 0"]
    for segment in ordered(segments):
        red, green, blue = segment.rgb_bytes
        rows.append(f"{segment.value} {'_'.join(segment.label.split())} {red} {green} {blue} 255")
    return f"# Color table file\n# {len(rows)} values\n" + "\n".join(rows) + "\n"


def bids_labels(segments: Sequence[Segment]) -> str:
    """The text of a BIDS label table (`*_dseg.tsv`): index, name and color (#rrggbb), separated by tabs.

    Raises:
        ValueError: two segments have one value.
    """
    rows = ["index\tname\tcolor"]
    for segment in ordered(segments):
        red, green, blue = segment.rgb_bytes
        rows.append(f"{segment.value}\t{segment.label}\t#{red:02x}{green:02x}{blue:02x}")
    return "\n".join(rows) + "\n"
