"""The browser that the tests of the report use."""

from tests.reports.conftest import browser  # noqa: F401
