"""Recipes: right numbers of every kind of record, from small files as the tools write them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, InvalidInputError
from calibration_ledger.formats.recipe import parse_recipe, recipes

SAMPLES = Path(__file__).parent / "samples"
SHARED = Path(__file__).parents[3] / "shared" / "samples"

MODEL = {"aiperf": "tiny-1", "llmperf": "tiny-1"}
"""Of the tools whose files name none."""


def take(name, kind="auto", **options):
    model = MODEL.get(name.partition(".")[0])
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls(kind, SAMPLES / name, model=model, **options)
        again = calibrator.import_calls(kind, SAMPLES / name, model=model, **options)
        assert (again.recorded, again.already) == (0, report.recorded)
        assert calibrator.audit() == []
        calls = sorted(calibrator.calls(), key=lambda call: call.called_at)
    return report, calls


def test_recipes_give_only_the_reasons_that_the_page_on_imports_explains():
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    told = page.partition("## What is skipped")[2].partition("##")[0]
    for one in recipes():
        for reason, _ in one.call_map.skips:
            assert f"| `{reason}` |" in told, one.name


def at(second, microsecond=0, minute=0):
    return datetime(2025, 11, 24, 16, minute, second, microsecond, UTC)


def numbers(call):
    return call.model, call.prompt_tokens, call.completion_tokens, call.actual_ms


def details(call):
    return {name: value for name, value in call.details.items() if name != "import_id"}


def test_aiperf_takes_the_servers_counts_and_reads_each_unit():
    report, calls = take("aiperf.profile_export.jsonl")
    assert report.format == "aiperf"
    assert dict(report.left_out) == {"cancelled": 1, "failed": 1, "unknown tokens": 1}
    assert report.read_as == ("1 of 6 records left out by a condition",)  # of the warm-up
    first, second = calls
    assert numbers(first) == ("tiny-1", 58, 12, 250.5)
    assert first.request_id == "aa12"
    assert first.called_at == datetime.fromtimestamp(1_764_000_001, UTC)
    assert details(first) == {
        "clock": "attempt", "ttft_ms": 80.0, "cached_tokens": 16, "reasoning_tokens": 3,
    }  # fmt: skip
    assert numbers(second) == ("tiny-1", 64, 15, 300.0)  # the client's counts, and microseconds


def test_guidellm_is_read_in_each_of_its_layouts():
    report, (call,) = take("guidellm.0-8.json")
    assert report.format == "guidellm"
    assert dict(report.left_out) == {"failed": 1, "cancelled": 1, "unknown tokens": 1}
    assert numbers(call) == ("tiny-1", 40, 12, 250.0)
    assert call.request_id == "g1"
    assert call.called_at == datetime.fromtimestamp(1_764_000_000.25, UTC)
    assert details(call) == {
        "clock": "attempt", "ttft_ms": 70.5, "cached_tokens": 8, "max_concurrency": 2,
    }  # fmt: skip
    report, (call,) = take("guidellm.0-3.json")
    assert report.format == "guidellm"
    assert dict(report.left_out) == {"failed": 1, "cancelled": 1}
    assert numbers(call) == ("tiny-1", 40, 12, 250.0)
    assert call.called_at == datetime.fromtimestamp(1_764_000_000.25, UTC)
    assert details(call) == {"clock": "attempt", "ttft_ms": 50.0, "request_rate": 2.5}


def test_llmperf_has_neither_models_nor_times():
    report, calls = take("llmperf.individual.json")
    assert report.format == "llmperf"
    assert dict(report.left_out) == {"failed": 1}
    assert sorted(map(numbers, calls)) == [
        ("tiny-1", 550, 150, 750.0),
        ("tiny-1", 550, 150, 875.0),
    ]
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls("auto", SAMPLES / "llmperf.individual.json")
    assert dict(report.left_out) == {"failed": 1, "unknown model": 2}


def test_inspect_adds_the_tokens_of_the_cache_and_takes_the_last_attempt():
    report, (first, second) = take("inspect.log.json")
    assert report.format == "inspect"
    assert dict(report.left_out) == {"cached": 1, "failed": 1, "unknown tokens": 1}
    assert numbers(first) == ("openai/gpt-4o-mini", 100, 7, 375.0)
    assert (first.request_id, first.called_at) == ("e1", at(1, 500_000))
    assert details(first) == {
        "clock": "attempt", "retries": 2, "cached_tokens": 60, "reasoning_tokens": 4,
        "answered_model": "gpt-4o-mini-2024-07-18",
    }  # fmt: skip
    assert numbers(second) == ("ollama/tiny", 20, 5, 1250.0)


def test_promptfoo_skips_what_came_from_its_cache_and_names_no_server():
    report, calls = take("promptfoo.results.json")
    assert report.format == "promptfoo"
    assert dict(report.left_out) == {"cached": 1, "failed": 1, "unknown model": 1}
    assert sorted(map(numbers, calls)) == [
        ("gpt-4o-mini", 20, 10, 640.0),
        ("tiny:1b", 20, 11, 700.0),  # an answer that its test found wrong took as long
    ]
    assert {call.request_id for call in calls} == {"p1", "p2"}


def test_hmft_has_our_columns_by_other_names():
    report, (call,) = take("hmft.telemetry.jsonl")
    assert report.format == "hmft"
    assert dict(report.left_out) == {"unknown tokens": 1, "unknown duration": 1}
    assert numbers(call) == ("tiny-1", 30, 12, 512.25)
    assert call.called_at == at(0)
    assert details(call) == {"clock": "client", "ttft_ms": 45.5, "reasoning_tokens": 2}


def test_gemini_cli_tells_the_end_of_a_call_and_its_thoughts_apart():
    report, (call,) = take("gemini-cli.telemetry.log.json")
    assert report.format == "gemini-cli"
    assert dict(report.left_out) == {"failed": 1}
    assert numbers(call) == ("gemini-2.5-flash", 120, 42, 1500.0)
    assert call.called_at == at(1, 500_000)
    assert details(call) == {"clock": "client", "cached_tokens": 40, "reasoning_tokens": 12}


@pytest.mark.parametrize("name", ["openrouter.generations.json", "openrouter.activity.csv"])
def test_openrouters_answers_and_its_table_say_the_same(name):
    report, (call,) = take(name)
    assert report.format == "openrouter"
    assert dict(report.left_out) == {"cancelled": 1, "unknown duration": 1}
    assert numbers(call) == ("openai/gpt-oss-20b", 64, 98, 1450.0)
    assert call.request_id.startswith("gen-")
    assert call.called_at.replace(microsecond=0) == at(0)
    assert details(call) == {
        "clock": "server", "ttft_ms": 310, "streamed": True, "cached_tokens": 0,
        "reasoning_tokens": 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "recorded", "left_out"),
    [
        ("aiperf_profile_export.jsonl", 5, {}),
        ("guidellm_0.8.1_benchmarks.json", 2, {}),
        ("llmperf_individual_groq_70b.json", 3, {}),
        ("llmperf_individual_bedrock_70b.json", 2, {"failed": 1}),
        ("llmperf_individual_lepton_7b.json", 3, {}),
    ],
)
def test_real_files_are_recognised_and_read(name, recorded, left_out):
    path = SHARED / name
    if not path.exists():
        pytest.skip("the real files of other tools (../shared/samples) are not here")
    model = None if "guidellm" in name else "m"
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls("auto", path, model=model)
        assert (report.recorded, dict(report.left_out)) == (recorded, left_out)
        assert report.format in name
        assert report.unit_doubt is None
        assert report.doubtful == 0
        assert calibrator.audit() == []


def test_a_file_that_has_grown_adds_what_is_new(tmp_path):
    lines = (SAMPLES / "aiperf.profile_export.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "profile_export.jsonl"
    path.write_text("".join(lines[:2]))
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.import_calls("aiperf", path, model="m").recorded == 1
        third = json.loads(lines[2])
        more = []
        for number in range(3):
            third["metadata"]["x_request_id"] = f"new{number}"
            more.append(json.dumps(third) + "\n")
        path.write_text("".join(lines[:2] + more))
        assert calibrator.import_calls("aiperf", path, model="m").recorded == 3
        assert calibrator.audit() == []


GENERATION = {
    "id": "gen-1", "model": "tiny-1", "created_at": "2025-11-24T16:00:00Z",
    "generation_time": 1450, "tokens_prompt": 64, "tokens_completion": 98,
}  # fmt: skip
RESPONSE = {
    "error_code": None, "end_to_end_latency_s": 0.75, "ttft_s": 0.25,
    "number_input_tokens": 550, "number_output_tokens": 150,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "record", "zeros", "reason"),
    [
        ("openrouter", GENERATION, {"tokens_prompt": 0, "tokens_completion": 0}, "unknown tokens"),
        ("openrouter", GENERATION, {"generation_time": 0}, "unknown duration"),
        ("llmperf", RESPONSE, {"number_output_tokens": 0}, "failed"),
        ("llmperf", RESPONSE, {"end_to_end_latency_s": 0, "ttft_s": 0}, "unknown duration"),
        ("llmperf", RESPONSE, {"number_input_tokens": 0}, "unknown tokens"),
    ],
)
def test_what_tools_write_as_zero_is_not_known(tmp_path, kind, record, zeros, reason):
    path = tmp_path / "calls.json"
    path.write_text(json.dumps([record, record | zeros | {"id": "gen-2"}]))
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls(kind, path, model="tiny-1")
        assert (report.recorded, dict(report.left_out)) == (1, {reason: 1})
        assert calibrator.audit() == []


def test_every_recipe_says_what_it_reads_and_how_it_is_recognised():
    names = [one.name for one in recipes()]
    assert names == sorted(
        ["aiperf", "guidellm", "llmperf", "inspect", "promptfoo", "hmft", "gemini-cli",
         "openrouter"]
    )  # fmt: skip
    for one in recipes():
        assert one.reads
        assert one.has
        assert one.call_map.fixed["clock"]


RECIPE = '[map]\nmodel = "m"\nprompt_tokens = "p"\ncompletion_tokens = "c"\nactual_ms = "t:s"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("map = ", "not valid TOML"),
        ("map = " + "[" * 5_000, "not valid TOML"),
        ("", "the map is empty"),
        (RECIPE + "[wher]\n", "did you mean 'where'"),
        ('map = "x"', "map must be a table"),
        ("[map]\nmodel = 1\n", "model must be a path in quotes"),
        ('[map]\nmodle = "m"\n', "no column 'modle'"),
        ('where = 1\n[map]\nmodel = "m"\n', "must be a text, or a list of texts"),
        ('where = ["x"]\n[map]\nmodel = "m"\n', "no condition"),
        (RECIPE + '[skip]\nfaild = "x=1"\n', "did you mean 'failed'"),
    ],
)
def test_a_recipe_that_is_none_is_refused_with_what_is_wrong_in_it(text, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_recipe("my.toml", text)
    assert said in str(caught.value)
    assert "my.toml" in str(caught.value)
