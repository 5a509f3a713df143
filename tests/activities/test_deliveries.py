"""When the next attempt at a delivery comes."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from activities import deliveries
from activities.deliveries import delay_after, retry_after
from workflows.messages import DeliveryInput

DELIVERY = DeliveryInput(workspace_id=UUID(int=1), endpoint_id=UUID(int=2), message_id="msg_1")


def test_each_pause_is_within_a_fifth_of_the_schedule_and_stays_what_it_is():
    bases = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    for number, base in enumerate(bases, 1):
        pauses = {
            delay_after(number, DELIVERY.model_copy(update={"message_id": f"msg_{i}"})) for i in range(50)
        }
        assert len(pauses) == 50
        assert all(0.8 * base <= pause.total_seconds() <= 1.2 * base for pause in pauses)
    assert delay_after(3, DELIVERY) == delay_after(3, DELIVERY)
    assert delay_after(50, DELIVERY) <= 1.2 * deliveries.SCHEDULE[-1]


@pytest.mark.parametrize(
    ("wanted", "at_least", "at_most"), [(60, 60, 60), (1, 4, 6), (86400, 3600, 3600), (None, 4, 6)]
)
def test_an_endpoints_wish_lengthens_a_pause_within_reason(wanted: int | None, at_least: int, at_most: int):
    pause = delay_after(1, DELIVERY, wanted=None if wanted is None else timedelta(seconds=wanted))
    assert at_least <= pause.total_seconds() <= at_most


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("Wed, 25 Nov 2026 12:02:00 GMT", 120),
        ("0", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("1.5", None),
        ("٣", None),
        ("Wed, 25 Nov 2020 12:02:00 GMT", None),
        ("Wed, 99 Nov 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header: str | None, seconds: int | None):
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(header, now=now) == expected
