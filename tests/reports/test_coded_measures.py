"""The columns of the table in coded terms: every one has a code and a unit, and standard ones are the standard's."""

from __future__ import annotations

from dataclasses import replace

from pydicom.sr.codedict import codes

from ivdjax.imaging.files.codes import disc_code
from ivdjax.imaging.files.dicom_sr import PRIVATE_SCHEME
from ivdjax.reports.coded_measures import codes_of, disc_readings, measure_terms
from ivdjax.reports.columns import COLUMNS
from ivdjax.volume import Disc

DISC = Disc(2, 0.9, (0.0, 1.0, 2.0), 7000.0, {"middle_height_mm": 7.25, "tilt_deg": None, "odd": 3.0})


def test_every_number_of_the_table_has_a_name_and_a_unit_that_dicom_can_hold():
    terms = [measure_terms(column) for column in COLUMNS if column.kind == "number"]
    names = [name for name, _ in terms]
    assert len({value for value, _, _ in names}) == len(names)
    for (_, scheme, meaning), unit in terms:
        assert 0 < len(meaning) <= 64 and scheme in ("SCT", PRIVATE_SCHEME) and unit[1] == "UCUM"
    (volume,) = [name for name in names if name[1] == "SCT"]
    assert volume[0] == codes.SCT.Volume.value
    height = next(column for column in COLUMNS if column.name == "posterior_height_mm")
    assert {"AP width", "Nucleus over CSF", "Canal AP"} <= {meaning for _, _, meaning in names}
    assert measure_terms(height) == (("posterior_height_mm", PRIVATE_SCHEME, "Posterior height"), ("mm", "UCUM", "mm"))


def test_a_measure_has_its_error_and_a_grade_says_how_it_came_about_and_what_readers_reach():
    graded = replace(DISC, measures={"pfirrmann_expected": 3.5, "middle_height_mm": 7.25, "middle_height_mm_se": 0.3})
    errors = {reading.name[0]: reading.error for reading in disc_readings([graded])[disc_code(2).value]}
    assert errors["middle_height_mm"] == 0.3 and errors["pfirrmann_expected"] is None
    methods = {reading.name[0]: reading.method for reading in disc_readings([graded])[disc_code(2).value]}
    assert methods["middle_height_mm"] is None
    assert "kappa about 0.6" in methods["pfirrmann_expected"][2] and len(methods["pfirrmann_expected"][2]) <= 64


def test_what_was_measured_is_told_by_the_code_of_the_level_and_nothing_else():
    readings = disc_readings([DISC])
    assert list(readings) == [disc_code(2).value]
    assert {reading.name[0]: reading.value for reading in readings[disc_code(2).value]} == {
        "level_confidence": 0.9, codes.SCT.Volume.value: 7000.0, "middle_height_mm": 7.25}  # fmt: skip
    found = codes_of([DISC])
    assert found["levels"] == {"2": {"value": "84020006", "scheme": "SCT", "meaning": "L4/L5 disc"}}
    assert set(found["measures"]) == {"level_confidence", "volume_mm3", "middle_height_mm"}
    assert found["measures"]["middle_height_mm"]["unit"] == "mm"
    assert codes_of([]) == {"levels": {}, "measures": {}} and disc_readings([]) == {}
