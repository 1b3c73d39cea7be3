"""What the tests of hooks share: a stand-in for the providers."""

import pytest

from support.fake_provider import Behaviour, FakeProvider


@pytest.fixture
def fake():
    """A provider that takes a moment, and counts 11 tokens in and 7 out whatever it is asked."""
    behaviour = Behaviour(prompt_tokens=11, completion_tokens=7, first_ms=10)
    with FakeProvider(behaviour) as opened:
        yield opened
