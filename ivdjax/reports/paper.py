"""The paper's Tables 1 to 3: the hidden on-site test set of the IVDM3Seg challenge, 8 sets of 4 subjects."""

from __future__ import annotations

from typing import Any

_DICE = """
0.888 0.904 0.927 0.911 0.896 0.890 0.868
0.908 0.934 0.940 0.944 0.930 0.923 0.925
0.894 0.896 0.900 0.866 0.896 0.818 0.884
0.918 0.938 0.938 0.913 0.909 0.885 0.925
0.897 0.911 0.917 0.918 0.869 0.896 0.926
0.865 0.914 0.929 0.910 0.898 0.898 0.892
0.904 0.931 0.931 0.914 0.904 0.887 0.863
0.904 0.928 0.922 0.923 0.910 0.907 0.889
"""
_ASD_MM = """
0.73 0.67 0.49 0.58 0.63 0.61 0.68
0.54 0.47 0.44 0.37 0.44 0.41 0.41
0.72 0.82 0.74 0.87 0.57 0.90 0.54
0.55 0.48 0.42 0.50 0.48 0.51 0.29
0.58 0.70 0.69 0.61 0.97 0.68 0.37
0.85 0.66 0.57 0.75 0.78 0.69 0.55
0.64 0.53 0.52 0.64 0.62 0.65 0.65
0.72 0.63 0.63 0.68 0.62 0.57 0.58
"""
_LOCALIZATION_MM = """
0.44 1.42 0.53 0.78 1.37 0.98 1.08
0.38 0.73 0.27 0.47 0.73 0.41 0.18
0.64 0.33 1.36 2.11 0.95 1.27 0.46
0.83 0.53 0.63 1.35 0.50 1.20 0.08
0.80 0.34 0.13 1.04 0.93 1.04 0.49
1.23 0.47 0.43 0.12 0.64 1.09 0.66
0.60 1.12 0.98 1.21 1.17 0.63 1.07
0.28 1.30 0.77 0.92 1.03 0.35 0.60
"""


def paper_rows() -> list[dict[str, Any]]:
    """The paper's tables as rows, one a case (Test_01 to Test_08) and level: dice, asd_mm, localization_error_mm."""
    tables = {"dice": _DICE, "asd_mm": _ASD_MM, "localization_error_mm": _LOCALIZATION_MM}
    values = {key: [line.split() for line in text.split("\n") if line] for key, text in tables.items()}
    return [
        {"case": f"Test_{case + 1:02d}", "level": level + 1,
         **{key: float(lines[case][level]) for key, lines in values.items()}}
        for case in range(8) for level in range(7)
    ]  # fmt: skip
