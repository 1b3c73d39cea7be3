"""Every snippet of the pages that imports a client of models, run as a program of its own.

A stand-in answers for the providers: the addresses are in the environment, where the clients look.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.snippets import BLOCK, clients_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PROVIDERS = ("OPENAI", "ANTHROPIC", "GROQ", "GEMINI", "MISTRAL")

SNIPPETS = [
    pytest.param(code, id=f"{page.stem}-{i}-{'-'.join(sorted(clients_of(code)))}")
    for page in PAGES
    for i, (language, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
    if language == "python" and clients_of(code)
]


def is_here(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a part of a package that is not here
        return False


def run(code, folder, fake):
    """What a program prints whose clients find the stand-in by the environment."""
    script = folder / "snippet.py"
    script.write_text(code, encoding="utf-8")
    surroundings = {
        **os.environ,
        **dict.fromkeys(("OPENAI_BASE_URL", "OPENAI_API_BASE"), fake.openai),
        **dict.fromkeys(("ANTHROPIC_BASE_URL", "GROQ_BASE_URL", "OLLAMA_HOST"), fake.root),
        **dict.fromkeys(("GOOGLE_GEMINI_BASE_URL", "MISTRAL_SERVER"), fake.root),
        **{f"{name}_API_KEY": "x" for name in PROVIDERS},
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_records_the_calls_that_it_makes(code, fake, tmp_path):
    absent = sorted(name for name in clients_of(code) if not is_here(name))
    if absent:
        pytest.skip(f"not installed here: {', '.join(absent)}")
    printed = run(code, tmp_path, fake)
    assert "".join(f"#> {line}\n" for line in printed.splitlines()) == "".join(
        f"{line}\n" for line in code.splitlines() if line.startswith("#> ")
    )
    if not fake.calls:  # it only says where the hook is
        return
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        calls = list(calibrator.calls())
        assert [(one.prompt_tokens, one.completion_tokens) for one in calls] == [(11, 7)] * len(
            fake.calls
        )
        assert {one.model.rpartition("/")[2] for one in calls} == {one.model for one in fake.calls}
        assert calibrator.audit() == []


def test_each_client_and_framework_has_a_snippet():
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    found = {
        name
        for language, code in BLOCK.findall(page)
        if language == "python"
        for name in clients_of(code)
    }
    assert found >= {
        *("anthropic", "google", "groq", "langchain_openai", "litellm", "mistralai", "ollama"),
        *("openai", "opentelemetry", "pydantic_ai"),
    }


def test_the_proxy_finds_the_logger_by_the_name_in_its_configuration(fake, tmp_path):
    if not is_here("litellm") or not is_here("calibration_ledger.live.litellm"):
        pytest.skip("litellm is not installed here")
    page = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    (code,) = [code for _, code in blocks if code.startswith("# ledger_hook.py")]
    (config,) = [code for _, code in blocks if "callbacks:" in code]
    (tmp_path / "ledger_hook.py").write_text(code, encoding="utf-8")
    name = config.rpartition("callbacks: ")[2].strip()
    program = f"""
        from litellm.proxy.types_utils.utils import get_instance_fn
        found = get_instance_fn({name!r}, config_file_path={str(tmp_path / "config.yaml")!r})
        print(type(found).__name__)
    """
    assert run(textwrap.dedent(program), tmp_path, fake) == "LedgerLogger\n"
