"""count_tokens(): by tiktoken where it can, else by the rule of thumb as stated, never online."""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from calibration_ledger import InvalidInputError, TokenCount, count_tokens
from calibration_ledger.core.tokens import by_rule_of_thumb, is_fetched
from support.programs import ran

WAY = "from calibration_ledger import count_tokens; print(count_tokens('one two three'))"

OFFLINE = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        sys.exit(f"it went online: {event} {arguments}")

sys.addaudithook(refuse)
"""


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("four", 1),
        ("fours", 2),
        ("Grüße aus Köln", 4),
        ("x" * 4000, 1000),
        ("Привет", 3),  # 6 / 2.5
        ("你好吗世界", 4),  # 5 / 1.25
        ("こんにちは", 4),
        ("안녕하세요", 4),
        ("four 你好吗世界", 6),  # 5 / 4 + 5 / 1.25
    ],
)
def test_the_rule_of_thumb_is_the_stated_one(text, tokens):
    assert by_rule_of_thumb(text) == tokens


@pytest.mark.parametrize("wrong", [None, b"text", 5, ["a"]])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="text must be a str"):
        count_tokens(wrong)


def printed(code, folder, *, path=None):
    """What a fresh interpreter prints whose tiktoken keeps its tables in this folder."""
    env = {**os.environ, "TIKTOKEN_CACHE_DIR": str(folder)}
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(path), env.get("PYTHONPATH", "")])
    done = ran(OFFLINE + code, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_tiktoken_it_is_the_rule_of_thumb_and_says_what_would_help(tmp_path):
    out = printed("sys.modules['tiktoken'] = None\n" + WAY, tmp_path)
    assert "tokens=4, counted_by='rule of thumb', remark='`pip install tiktoken`" in out


def test_a_tiktoken_that_does_not_work_counts_as_none(tmp_path):
    (tmp_path / "tiktoken.py").write_text("raise OSError('a library is missing')")
    out = printed(WAY, tmp_path, path=tmp_path)
    assert "counted_by='rule of thumb', remark='tiktoken failed (a library is missing)'" in out


@pytest.mark.skipif(find_spec("tiktoken") is None, reason="the extra `tokens` is not here")
def test_a_table_that_was_never_fetched_is_not_fetched_by_a_count(tmp_path):
    out = printed(WAY, tmp_path)
    assert "counted_by='rule of thumb', remark='tiktoken has no table of an encoding yet" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("tiktoken") is None, reason="the extra `tokens` is not here")
def test_a_damaged_table_is_neither_used_nor_fetched_anew(tmp_path):
    damaged = tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790"  # o200k_base
    damaged.write_text("half a table")
    assert "counted_by='rule of thumb'" in printed(WAY, tmp_path)
    assert damaged.read_text() == "half a table"


# -- where a table is -----------------------------------------------------------------------


@pytest.fixture
def tables(monkeypatch):
    """A folder with a table: tiktoken's own, or that which travels with LiteLLM."""
    pytest.importorskip("tiktoken")
    folders = [os.environ.get("TIKTOKEN_CACHE_DIR"), Path(tempfile.gettempdir(), "data-gym-cache")]
    litellm = find_spec("litellm")
    if litellm is not None and litellm.origin is not None:
        folders.append(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")
    for folder in filter(None, folders):
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        if is_fetched("o200k_base"):
            return folder
    pytest.skip("tiktoken has fetched no table here")


def test_with_a_table_tokens_are_counted(tables):
    text = "Hello, world! Grüße aus Köln, 你好世界."
    import tiktoken

    expected = len(tiktoken.get_encoding("o200k_base").encode(text))
    assert count_tokens(text) == TokenCount(expected, "tiktoken o200k_base")
    assert count_tokens("") == TokenCount(0, "tiktoken o200k_base")


def test_what_looks_like_a_special_token_is_text(tables):
    assert count_tokens("<|endoftext|>").tokens > 1


def test_a_million_blanks_are_counted_too(tables):
    assert 7_000 < count_tokens(" " * 1_000_000).tokens < 9_000


def test_half_a_surrogate_pair_is_counted_too(tables):
    assert count_tokens("\ud800 half").tokens > 0


def test_a_count_needs_no_network(tables):
    assert "counted_by='tiktoken o200k_base'" in printed(WAY, tables)
