"""A row on its own: the key of what it says, and JSON that says something twice."""

import math

import pytest

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.json_text import parse_json
from calibration_ledger.formats.row import Row, content_key


def test_the_key_of_a_rows_content_never_changes():
    """Released: with another key, importing an old file again would record it twice."""
    row = Row("größe", 1_735_689_600_123_456, 512, 128, 3400.25, None, '{"ttft_ms":80.5}')
    assert content_key(row).hex() == "ae7a7d70b070f39d14992fb758cd62bb"
    assert (
        content_key(row._replace(called_at=None, details=None)).hex()
        == "c370220eab28da76d49bbf9788286a33"
    )


def test_rows_differ_in_their_key_where_they_differ_at_all():
    row = Row("m", 5, 1, 2, 3.0, None, None)
    others = [
        row._replace(model="m2"),
        row._replace(called_at=None),
        row._replace(called_at=0),
        row._replace(prompt_tokens=12, completion_tokens=2),
        row._replace(prompt_tokens=1, completion_tokens=22),
        row._replace(actual_ms=math.nextafter(3.0, 4.0)),
        row._replace(details="{}"),
    ]
    assert len({content_key(each) for each in [row, *others]}) == 8


def test_a_line_of_many_keys_with_one_twice_is_refused_at_once():
    """To compare each key with all others would take minutes here."""
    keys = [f'"{i}":1' for i in [*range(60_000), 59_999]]
    with pytest.raises(InvalidInputError, match="'59999' is there twice"):
        parse_json("{" + ",".join(keys) + "}")
