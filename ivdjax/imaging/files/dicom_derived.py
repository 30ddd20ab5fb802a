"""What the DICOM objects that ivdjax writes have in common: whose they are, their UIDs, texts and dates."""

from __future__ import annotations

from typing import Any

SOFTWARE = "ivdjax"

NO_DATE, NO_TIME = "19000101", "000000"
"""Stand where no date of the source may be told, or none is known."""

_MAX_TEXT = 64


def derived_uid(*sources: str) -> str:
    """A UID that follows from texts, and from nothing else."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[SOFTWARE, *sources]))


def plain_text(value: str) -> str:
    """At most 64 printable ASCII characters: what a DICOM long string holds whatever the source's character set."""
    plain = "".join(letter if " " <= letter <= "~" and letter != "\\" else "?" for letter in value)
    return plain[:_MAX_TEXT].strip()


def forget_moment(dataset: Any) -> None:
    """Takes out of an object what highdicom took from the clock but for its content date."""
    del dataset.InstanceCreationDate, dataset.InstanceCreationTime
    for item in dataset.get("ContributingEquipmentSequence") or ():
        item.pop("ContributionDateTime", None)
