"""A GRPO step beside TRL: completion tokens per second, peak memory, and where the time goes.

    pip install --constraint constraints.txt --editable '.[bench]'
    python benchmarks/rl.py                                   # S and M; about half an hour
    python benchmarks/rl.py --models S --repeat 3 --dtypes float32

Both sides read the same model folder and the same prompts (20-400 tokens, log-normal, median 90), draw groups of 8 at
temperature 1, and step on them with the reference left out (beta 0), as both do by default. S draws 16 completions of
at most 256 tokens a step, M 8 of at most 128. Weights are random but for the logit of the end token, which makes
lengths geometric (about 165 tokens in the mean); the two sides' lengths are of one distribution, not equal. Each side's
number formats take turns (TRL autocasts; Fairlead can also draw from a bfloat16 copy), and the table compares the best
of each. Every measurement is a process of its own; seconds are its CPU time on one thread; the first step is left out.

The roofline is the time of the needed matrix products alone (every answer decoded once and trained on once, at three
times the forward; prompts once per group) at the machine's measured float32 speed; bfloat16 products can pass it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shapes import SHAPES
from training import log_normal, machine, measure, peak_mib, reset_peak, spread

GROUP = 8
SIZES = {"S": (16, 256), "M": (8, 128)}
"""Completions per step, and their most tokens."""
MEAN = 110
"""Tokens behind random text at which the end token has its share; behind its own words the model goes on longer."""
SIDES = ("trl", "fairlead")


# --- the same model and prompts for both ------------------------------------------------------------------------------


def make_prompts(count: int, seed: int = 0) -> list[dict]:
    import random
    import string

    rng = random.Random(seed)
    sizes = [log_normal(90, 0.8, 20, 400, rng) for _ in range(count)]
    return [{"prompt": "".join(rng.choices(string.ascii_letters, k=k))} for k in sizes]


def make_chatty(folder: Path) -> None:
    """Give the end token a logit of its own, so that one token in `MEAN` is it.

    One dimension of the hidden states is made constant (nothing writes to it, every embedding has the same number
    there), and the end token's row of the tied output head is larger at it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end, constant = model.config.eos_token_id, 0.05
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[:, 0] = constant
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        draws = torch.Generator().manual_seed(0)
        prompts = torch.randint(2, 258, (8, 100), generator=draws)  # letters are among the first tokens
        answers = torch.randint(2, model.config.vocab_size, (8, 150), generator=draws)
        ids = torch.cat([prompts, answers], dim=1)
        states = model.model(ids).last_hidden_state[:, 100:]
        logits = states @ embedding.T
        low, high = 0.0, 100.0
        for _ in range(50):
            middle = (low + high) / 2
            logits[..., end] = states[..., 0] * middle
            below = float(logits.softmax(-1)[..., end].mean()) < 1 / MEAN
            low, high = (middle, high) if below else (low, middle)
        embedding[end, 0] = low
    model.save_pretrained(folder)


def prepare_folder(name: str, work: Path) -> Path:
    folder = work / name
    if not folder.is_dir():
        program = (
            "import rl, training; from pathlib import Path; "
            f"training.write_model({name!r}, Path({str(folder)!r})); rl.make_chatty(Path({str(folder)!r}))"
        )
        subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True)
    return folder


# --- measuring --------------------------------------------------------------------------------------------------------


def told(ends: list[float], tokens: list[int], generating: list[float], completions: int) -> dict:
    seconds = ends[-1] - ends[0]
    return {
        "speed": sum(tokens[1:]) / seconds,
        "seconds": seconds / (len(ends) - 1),
        "length": sum(tokens[1:]) / completions / (len(ends) - 1),
        "generating": sum(generating[1:]) / seconds,
        "peak": peak_mib(),
    }


def run_fairlead(options: argparse.Namespace) -> dict:
    from fairlead.training import rollouts
    from fairlead.training.config import TrainConfig
    from fairlead.training.loop import accelerator_for
    from fairlead.training.rollout_config import RolloutConfig
    from fairlead.training.run import prepare
    from fairlead.training.setup import gather

    completions, most = SIZES[options.model]
    training, drawing = {
        "float32": ("float32", "float32"),
        "bfloat16": ("bfloat16", "float32"),
        "bfloat16 drawing": ("bfloat16", "bfloat16"),
    }[options.dtype]
    reward = {"name": "harbor_proxy", "proxy": "polite_count", "noise": 1.0}
    config = TrainConfig(
        model=options.folder, data=options.data, objective="policy_gradient", batch_size=completions // GROUP,
        max_steps=options.steps + 1, dtype=training, learning_rate=1e-6, max_length=1024,
        rollout=RolloutConfig(reward=reward, n=GROUP, max_tokens=most, dtype=drawing),
    )  # fmt: skip
    spent = [0.0]
    own = rollouts.Rollouts._draw

    def draw(*arguments, **named):
        began = time.process_time()
        found = own(*arguments, **named)
        spent[0] += time.process_time() - began
        return found

    rollouts.Rollouts._draw = draw
    with accelerator_for(config, options.work) as accelerator:
        run = prepare(gather(config), accelerator)
        ends, tokens, generating = [], [], []
        reset_peak()
        for _ in range(options.steps + 1):
            run.step()
            ends.append(time.process_time())
            tokens.append(sum(len(b.ids) for g in run.rollouts.groups for b in g.branches))
            generating.append(spent[0])
            spent[0] = 0.0
    return told(ends, tokens, generating, completions)


def run_trl(options: argparse.Namespace) -> dict:
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    disable_progress_bars()
    completions, most = SIZES[options.model]
    config = GRPOConfig(
        output_dir=str(options.work / "trl"), max_steps=options.steps + 1, per_device_train_batch_size=completions,
        num_generations=GROUP, max_completion_length=most, use_cpu=True, bf16=options.dtype != "float32", beta=0.0,
        gradient_checkpointing=False, learning_rate=1e-6, report_to=[], logging_steps=10_000, save_strategy="no",
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    prompts = [json.loads(line) for line in Path(options.data).read_text(encoding="utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    tokenizer.padding_side = "left"
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: [float(len(text) % 7) for text in completions],
        args=config,
        train_dataset=Dataset.from_list(prompts),
        processing_class=tokenizer,
    )
    ends, tokens, generating, spent = [], [], [], [0.0]
    draw, score = trainer._generate, trainer._generate_and_score_completions

    def generate(*arguments, **named):
        began = time.process_time()
        found = draw(*arguments, **named)
        spent[0] += time.process_time() - began
        return found

    def generate_and_score(inputs):
        found = score(inputs)
        tokens.append(int(found["completion_mask"].sum()))
        return found

    class Clock(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            reset_peak()

        def on_step_end(self, *args, **kwargs):
            ends.append(time.process_time())
            generating.append(spent[0])
            spent[0] = 0.0

    trainer._generate, trainer._generate_and_score_completions = generate, generate_and_score
    trainer.add_callback(Clock())
    trainer.train()
    return told(ends, tokens, generating, completions)


def roofline(options: argparse.Namespace) -> float:
    """Return completion tokens per second at the machine's float32 speed, nothing but the needed products counted."""
    import torch

    torch.set_num_threads(options.threads)
    one, other = torch.randn(2048, 512), torch.randn(512, 2048)
    rates = []
    for _ in range(20):
        began = time.process_time()
        one @ other
        rates.append(2 * 2048 * 512 * 2048 / (time.process_time() - began))
    shape = SHAPES[options.model]
    width, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    keys = width * shape["num_key_value_heads"] // shape["num_attention_heads"]
    layer = 2 * (2 * width * width + 2 * width * keys + 3 * width * inner)
    body, head = layers * layer, 2 * width * shape["vocab_size"]
    prompt = statistics.mean(len(row["prompt"]) for row in make_prompts(400)) / (GROUP * MEAN)
    # Per completion token: decoded once, scored forward and backward, its share of the prompt prefilled and trained.
    flops = (body + head) + 3 * (body + head) + prompt * (body + 3 * body)
    return max(rates) / flops


# --- one process per measurement --------------------------------------------------------------------------------------


def inside(given: dict) -> None:
    import torch

    options = argparse.Namespace(**given)
    options.work = Path(options.work)
    torch.set_num_threads(options.threads)
    print(json.dumps({"trl": run_trl, "fairlead": run_fairlead}[options.side](options)))


def compare(options: argparse.Namespace, model: str) -> list[str]:
    folder = prepare_folder(model, options.work)
    data = options.work / f"prompts-{model}.jsonl"
    count = SIZES[model][0] // GROUP * (options.steps + 2)
    data.write_text("".join(json.dumps(row) + "\n" for row in make_prompts(max(count, 64))), encoding="utf-8")
    settings = {"trl": [d for d in options.dtypes if " " not in d], "fairlead": options.dtypes}
    found: dict[tuple[str, str], list[dict]] = {}
    for _ in range(options.repeat):
        for dtype in options.dtypes:
            for side in SIDES:
                if dtype in settings[side]:
                    one = measure(options, side, script=__file__, dtype=dtype, model=model, folder=folder, data=data)
                    found.setdefault((side, dtype), []).append(one)
                    print(f"# {model} {side} {dtype}: {json.dumps(one)}", file=sys.stderr, flush=True)
    best = {
        side: max(settings[side], key=lambda d: statistics.median(o["speed"] for o in found[side, d])) for side in SIDES
    }
    theirs, ours = (found[side, best[side]] for side in SIDES)

    def row(what: str, key: str, digits: int) -> str:
        a, b = ([one[key] for one in part] for part in (theirs, ours))
        ratio = statistics.median(b) / statistics.median(a)
        return f"| grpo: {what} | {model} | {spread(a, digits)} | {spread(b, digits)} | {ratio:.2f} |"

    names = f"| grpo: fastest format | {model} | {best['trl']} | {best['fairlead']} | |"
    bound = f"| grpo: roofline, tokens/s | {model} | | {roofline(argparse.Namespace(model=model, threads=1)):.0f} | |"
    return [
        names, row("completion tokens/s", "speed", 0), row("peak MiB", "peak", 0),
        row("share of time in generation", "generating", 2), row("mean length", "length", 0), bound,
    ]  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(json.loads(sys.argv[2]))
        return
    formats = ["float32", "bfloat16", "bfloat16 drawing"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S", "M"], choices=SHAPES)
    parser.add_argument("--dtypes", nargs="+", default=formats, choices=formats)
    parser.add_argument("--steps", type=int, default=5, help="measured steps per process (default 5)")
    parser.add_argument("--repeat", type=int, default=2, help="turns of the two sides (default 2)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-memory", action="store_true", help="glibc keeps freed blocks, on both sides")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}; {machine()}; {options.threads} thread, CPU seconds\n")
    print("| what | model | TRL: median (low-high) | Fairlead | Fairlead / TRL |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as work:
        options.work = Path(work)
        for model in options.models:
            print("\n".join(compare(options, model)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
