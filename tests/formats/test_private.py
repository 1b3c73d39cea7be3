"""No text of a file that is imported gets into the ledger, but the names of models and ids.

Each field of each sample that holds a text gets a word of its own: prompts, answers, addresses,
keys, names of users, notes; also fields that objects may have besides. Where a file is then no
longer read as before, because the field is one that its reader must understand (the type of a
record, a time), the word goes behind the text, or the field is left alone. Then the words are
looked for in all bytes of the ledger's files, and in all that is printed.

To add a sample, put it into `tests/formats/samples/`. Its name is `FORMAT.WHAT.EXT`, such as
`otlp.logs.jsonl`; a database is a script, `llm.0-19.sql`, which is run. `OPTIONS` has what else its
import needs. The real files of `../shared/samples` are in `REAL`.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, CalibrationLedgerError
from calibration_ledger.cli.main import main
from support.plants import WORD, Sample, behind, instead, word, words_in

SAMPLES = sorted(path for path in (Path(__file__).parent / "samples").glob("*.*"))
SHARED = Path(__file__).parents[3] / "shared" / "samples"

OPTIONS: dict[str, dict[str, object]] = {
    "llamacpp_timings_readme": {"model": "phi3:mini"},
    "aiperf": {"model": "phi3:mini"},
    "llmperf": {"model": "phi3:mini"},
}
"""What `import_calls` needs besides, by the beginning of a sample's name."""

REAL = {
    "llm-": "llm",
    "phoenix-": "phoenix",
    "groq_": "groq",
    "litellm_": "litellm",
    "llamacpp_": "llamacpp",
    "ollama_": "ollama",
    "otlp_": "otlp",
    "vllm_bench_": "vllm-bench",
    "aiperf_": "aiperf",
    "guidellm_": "guidellm",
    "llmperf_individual_": "llmperf",
}
"""The format of each real file, by the beginning of its name."""

GOES_IN = re.compile(r"model|provider|uuid|(?:^|[._])id$|[a-z]I[dD]$|_id$")
"""The fields whose text may be the name of a model, or what a call is known by."""

NEVER = re.compile(r"user|session|team|org|host|content|prompt_text|messages|api_key|url|api_base")
"""What may not, whatever else it is called."""

HOLDS_MORE = {"openwebui": {"messages"}, "mlflow": {"content"}}
"""Fields of such a name that hold what a reader needs, too: the messages' models and ids, say."""

OWN = re.compile(r"request_id|model|details")
"""Of files with the ledger's own fields: what their writers put there is theirs."""


def may_go_in(format_, name):
    if format_ in {"jsonl", "csv"}:
        return OWN.search(name[0]) is not None
    path = [part for part in name if part not in HOLDS_MORE.get(format_, ())]
    return GOES_IN.search(name[-1]) is not None and NEVER.search(".".join(path)) is None


class Probe:
    """Tries which fields may hold a word; nothing of that is recorded."""

    def __init__(self, sample, format_, options, scratch):
        self.sample, self.format, self.options, self.scratch = sample, format_, options, scratch
        self.fields = sample.fields(scratch)
        self.ways = {}
        self.trial = AdaptiveCalibrator(":memory:")

    def write(self, ways):
        numbers = {name: number for number, name in enumerate(self.fields)}

        def plant(name, text):
            way = ways.get(name)
            # An empty text stays so: often it says that nothing failed.
            return text if way is None or text == "" else way(text, word(numbers[name]))

        self.sample.write(self.scratch, plant)

    def calls(self, ways):
        """How many calls are read; None where the file is refused."""
        self.write(ways)
        try:
            return self.trial.import_calls(
                self.format, self.scratch, dry_run=True, **self.options
            ).recorded
        except CalibrationLedgerError:
            return None

    def add(self, names, way, calls):
        """Plant in as many of these as leave as many calls; gives the others."""
        if not names:
            return []
        tried = self.ways | dict.fromkeys(names, way)
        if self.calls(tried) == calls:
            self.ways = tried
            return []
        if len(names) == 1:
            return names
        half = len(names) // 2
        return self.add(names[:half], way, calls) + self.add(names[half:], way, calls)


def check(path, format_, tmp_path):
    options = next((OPTIONS[key] for key in OPTIONS if path.name.startswith(key)), {})
    sample = Sample(path)
    scratch = tmp_path / sample.name()
    probe = Probe(sample, format_, options, scratch)
    calls = probe.calls({})
    assert calls is not None
    left = probe.add(probe.add(probe.fields, instead, calls), behind, calls)
    # A field that only people read is no field that a reader must understand.
    if format_ not in {"jsonl", "csv"}:  # which refuse names that they do not know
        assert [name for name in left if NEVER.search(name[-1])] == []
    probe.write(probe.ways)
    probe.trial.close()

    ledger = tmp_path / "ledger"
    ledger.mkdir()
    with AdaptiveCalibrator(ledger / "calls.db") as calibrator:
        report = calibrator.import_calls(format_, scratch, **options)
        assert report.recorded == calls
        assert not calls or calibrator.audit() == []
        found = words_in(ledger)  # while it is open: its log has them, too
    found |= words_in(ledger)
    arguments = [argument for key, value in options.items() for argument in (f"--{key}", value)]
    for more in ([], ["--json"]):
        command = ["--ledger", str(ledger / "calls.db"), "import", format_, str(scratch)]
        printed = CliRunner().invoke(main, [*command, *arguments, *more])
        assert printed.exit_code == 0, printed.output
        found |= {text.decode().lower() for text in WORD.findall(printed.output.encode())}
    allowed = {word(number) for number, name in enumerate(probe.fields) if may_go_in(format_, name)}
    leaks = {probe.fields[int(text[-4:])] for text in found - allowed}
    assert leaks == set()
    return len(probe.ways), len(left)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_nothing_but_models_and_ids_gets_from_a_sample_into_the_ledger(path, tmp_path):
    planted, left = check(path, path.name.partition(".")[0], tmp_path)
    assert planted + left


@pytest.mark.parametrize(("name", "format_"), REAL.items())
def test_nothing_but_models_and_ids_gets_from_a_real_file_into_the_ledger(name, format_, tmp_path):
    paths = sorted(SHARED.glob(f"{name}*"))
    if not paths:
        pytest.skip("the real files of other tools (../shared/samples) are not here")
    for path in paths:
        folder = tmp_path / path.stem
        folder.mkdir()
        check(path, format_, folder)


def test_a_text_that_goes_in_is_found(tmp_path):
    """The harness itself: where a file's own details bring a word, it is seen."""
    path = tmp_path / "jsonl.leak.jsonl"
    row = {"model": "m", "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": 5.5}
    path.write_text(json.dumps({**row, "details": {"note": "a prompt"}}) + "\n")
    sample = Sample(path)
    scratch, ledger = tmp_path / "sample.jsonl", tmp_path / "ledger"
    ledger.mkdir()
    assert {("model",), ("details", "note"), ("user",)} <= {*sample.fields(scratch)}
    sample.write(scratch, lambda name, text: word(1) if "note" in name else text)
    with AdaptiveCalibrator(ledger / "calls.db") as calibrator:
        calibrator.import_calls("jsonl", scratch)
    assert words_in(ledger) == {word(1)}


def test_a_map_takes_what_it_names_and_nothing_beside_it(tmp_path):
    path, ledger = tmp_path / "own.jsonl", tmp_path / "ledger"
    ledger.mkdir()
    record = {"m": "m", "in": 1, "out": 2, "ms": 5.5, "prompt": word(1), "meta": {"user": word(2)}}
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    names = ["model=m", "prompt_tokens=in", "completion_tokens=out", "actual_ms=ms"]
    with AdaptiveCalibrator(ledger / "calls.db") as calibrator:
        assert calibrator.import_calls("jsonl", path, map=names).recorded == 1
        assert calibrator.audit() == []
    assert words_in(ledger) == set()
