"""Cron: what people write, and what no clock could follow."""

import pytest

from workflows import cron


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("* * * * *", "* * * * *"),
        ("*/15 9-17 * * mon-fri", "*/15 9-17 * * MON-FRI"),
        ("0  8,12 1 jan,JUL 7", "0 8,12 1 JAN,JUL 7"),
        ("5/10 0 29 2 *", "5/10 0 29 2 *"),
    ],
)
def test_five_fields_are_taken(written: str, plain: str):
    assert cron.check(written) == plain


@pytest.mark.parametrize(
    "written",
    [
        *("", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *"),
        *("* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1, * * * *", "-1 * * * *", "a * * * *"),
        *(
            "0 0 31 2 *",
            "0 0 30 FEB *",
            "0 0 31 4,6 *",
            "１ * * * *",
            "* * * MON *",
            f"{'1,' * 200}1 * * * *",
        ),
        "1.5 * * * *",
    ],
)
def test_what_no_clock_can_follow_is_refused(written: str):
    with pytest.raises(ValueError, match=r"^\S"):
        cron.check(written)
