"""Measure calls to real transformers on this machine, the way that a client would see them.

The output is the packaged sample, `src/calibration_ledger/data/sample_calls.csv`; the note beside
it says how, when and on what that file was measured. Run it from the repository's root, in a
virtual environment of its own, because PyTorch is large and nothing else here needs it:

    pip install torch transformers
    python benchmarks/measure_calls.py --out sample_calls.csv

(Any PyTorch 2 will do, the CPU build is enough; nothing is downloaded when it runs.) The models
have real shapes and random weights: a matrix product takes as long whatever numbers it multiplies,
and the greedy decoding is told how many tokens to write instead of waiting for an end-of-text
token. Each call is `generate()` on a prompt of random tokens, prefill and decoding with a
key-value cache; the wall clock is around the whole call. Both lengths are drawn log-uniformly,
independently of each other, and the calls of all models run one at a time in one shuffled order.

Every call is written, as it was measured: there is no filter, no smoothing and no formula. A few
calls per model warm it up beforehand and are not written.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import platform
import random
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch
import transformers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COLUMNS = ("model", "called_at", "prompt_tokens", "completion_tokens", "actual_ms")
PROMPT_TOKENS = (16, 512)
COMPLETION_TOKENS = (4, 96)
MAX_POSITIONS = 1024  # the longest prompt and the longest completion fit together
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Setting:
    """A model to measure: the name it is recorded under, how it is built, and its precision."""

    name: str
    build: Callable[[], PreTrainedModel]
    dtype: torch.dtype


@dataclass(frozen=True)
class PlannedCall:
    """A call that is still to be made."""

    model: str
    prompt_tokens: int
    completion_tokens: int


def llama(hidden: int, layers: int, heads: int, intermediate: int) -> PreTrainedModel:
    """Build a Llama with random weights and no end-of-text token."""
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def gpt2(hidden: int, layers: int, heads: int) -> PreTrainedModel:
    """Build a GPT-2 with random weights and no end-of-text token."""
    config = GPT2Config(
        n_embd=hidden,
        n_layer=layers,
        n_head=heads,
        n_positions=MAX_POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


SETTINGS = (
    Setting("random-llama:15m-f32", lambda: llama(288, 6, 6, 768), torch.float32),
    Setting("random-llama:42m-f32", lambda: llama(512, 8, 8, 1376), torch.float32),
    Setting("random-llama:110m-bf16", lambda: llama(768, 12, 12, 2048), torch.bfloat16),
    Setting("random-gpt2:124m-f32", lambda: gpt2(768, 12, 12), torch.float32),
)


def log_uniform(draw: random.Random, bounds: tuple[int, int]) -> int:
    """Draw a whole number between the bounds, every factor of two as likely as any other."""
    low, high = bounds
    return round(math.exp(draw.uniform(math.log(low), math.log(high))))


def plan_calls(draw: random.Random, calls: int) -> list[PlannedCall]:
    """Draw the lengths of every model's calls and shuffle the models among each other."""
    plan = [
        PlannedCall(
            model=setting.name,
            prompt_tokens=log_uniform(draw, PROMPT_TOKENS),
            completion_tokens=log_uniform(draw, COMPLETION_TOKENS),
        )
        for setting in SETTINGS
        for _ in range(calls)
    ]
    draw.shuffle(plan)
    return plan


def load_models() -> dict[str, PreTrainedModel]:
    """Build every model, in evaluation mode, and say on stderr what was built."""
    models = {}
    for setting in SETTINGS:
        model = setting.build().to(setting.dtype).eval()
        report(f"{setting.name}: {model.num_parameters():,} parameters, {setting.dtype}")
        models[setting.name] = model
    return models


def generate(model: PreTrainedModel, prompt: torch.Tensor, completion_tokens: int) -> int:
    """Decode greedily and return how many tokens came back."""
    answer = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=completion_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=0,
    )
    return int(answer.shape[1] - prompt.shape[1])


def measure(model: PreTrainedModel, call: PlannedCall) -> tuple[datetime, float]:
    """Make one call; return when it began (UTC) and its wall-clock milliseconds."""
    prompt = torch.randint(0, model.config.vocab_size, (1, call.prompt_tokens))
    called_at = datetime.now(UTC)
    start = time.perf_counter()
    answered = generate(model, prompt, call.completion_tokens)
    elapsed_ms = (time.perf_counter() - start) * 1000.0
    if answered != call.completion_tokens:
        raise RuntimeError(
            f"{call.model} was told to write {call.completion_tokens} tokens and wrote {answered}"
        )
    return called_at, elapsed_ms


def write_calls(output: TextIO, calls: int, seed: int) -> None:
    """Measure every planned call and write each as soon as it is known."""
    torch.manual_seed(seed)
    plan = plan_calls(random.Random(seed), calls)
    models = load_models()
    for setting in SETTINGS:
        for _ in range(WARM_UP_CALLS):
            measure(models[setting.name], PlannedCall(setting.name, 128, 16))

    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, call in enumerate(plan, start=1):
        called_at, elapsed_ms = measure(models[call.model], call)
        writer.writerow(
            (
                call.model,
                called_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                call.prompt_tokens,
                call.completion_tokens,
                f"{elapsed_ms:.3f}",
            )
        )
        output.flush()
        if number % 20 == 0 or number == len(plan):
            report(f"{number} of {len(plan)} calls measured")


def report(line: str) -> None:
    """Tell the person who waits; stdout belongs to the rows."""
    print(line, file=sys.stderr, flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure calls to real transformers, as CSV.")
    parser.add_argument("--out", type=Path, help="the CSV file to write (default: stdout)")
    parser.add_argument("--calls", type=int, default=240, help="calls per model (default: 240)")
    parser.add_argument("--seed", type=int, default=1, help="of lengths, order and weights")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads (default: 1)")
    return parser.parse_args()


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Open the file to write, or lend stdout."""
    if path is None:
        yield sys.stdout
    else:
        with path.open("w", encoding="utf-8", newline="") as output:
            yield output


def main() -> None:
    """Measure, with the settings of the command line."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    report(
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"transformers {transformers.__version__}, {torch.get_num_threads()} thread(s)"
    )
    with opened(arguments.out) as output, torch.inference_mode():
        write_calls(output, arguments.calls, arguments.seed)


if __name__ == "__main__":
    main()
