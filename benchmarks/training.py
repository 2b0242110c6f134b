"""Training beside TRL: tokens per second, peak memory, the output head alone, and the time until the first step.

    pip install --constraint constraints.txt --editable '.[bench]'
    python benchmarks/training.py                               # every row; about an hour
    python benchmarks/training.py --workloads dpo sft --models S --repeat 3
    python benchmarks/training.py --workloads head start

Both sides read the same model folder and the same rows, in bfloat16 autocast with float32 weights and AdamW. Every
measurement is a process of its own; the two sides take turns, and one invocation gives the whole table. Seconds are the
process's CPU time on one thread, which others on the machine disturb least: the ratio is what counts. The first step is
left out. Tokens are those of the data without padding; a pair counts its prompt twice, whatever is computed. Peak
memory is the process's high-water mark while it trains, imports and weights included.

TRL runs as it ships, at its best: no gradient checkpointing, reference log-probs computed before the first step, and
for S batches grouped by length in SFT (DPO and KTO refuse that). Fairlead runs `gather`, `prepare` and `Run.step`, as
`fairlead train` does, with its defaults. Weights and tokens are random, which changes no shape; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shapes import SHAPES

BATCH = {("dpo", "S"): 8, ("dpo", "M"): 4, ("sft", "S"): 8, ("sft", "M"): 8, ("kto", "S"): 8, ("kto", "M"): 8}
"""Rows per step."""
SIDES = ("trl", "fairlead")
TRAINING = ("dpo", "sft", "kto")
WORKLOADS = (*TRAINING, "head", "start")
HEAD_ROWS = 1024
IMPORTS = {
    "trl": "from trl import DPOConfig, DPOTrainer",
    "fairlead": "from fairlead.training import loop, run, setup",
}


# --- the same model and rows for both ---------------------------------------------------------------------------------


def log_normal(median: float, sigma: float, low: int, high: int, rng: random.Random) -> int:
    return int(min(high, max(low, rng.lognormvariate(math.log(median), sigma))))


def make_rows(workload: str, count: int, seed: int = 0) -> list[dict]:
    """Rows of random letters: prompts of 20-400 (median 90), answers of 20-300 (median 110), both log-normal."""
    rng = random.Random(seed)

    def letters(median: float, sigma: float, high: int) -> str:
        return "".join(rng.choices(string.ascii_letters, k=log_normal(median, sigma, 20, high, rng)))

    rows = []
    for k in range(count):
        prompt, first, second = letters(90, 0.8, 400), letters(110, 0.7, 300), letters(110, 0.7, 300)
        rows.append(
            {
                "dpo": {"prompt": prompt, "chosen": first, "rejected": second},
                "sft": {"prompt": prompt, "completion": first},
                "kto": {"prompt": prompt, "completion": first, "label": k % 2 == 0},
            }[workload]
        )
    return rows


def write_model(name: str, folder: Path) -> None:
    """Save a random model and a tokenizer with one token per letter, so that both sides see the same tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    shape = dict(SHAPES[name])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: k for k, token in enumerate(["<pad>", "<end>", *alphabet])}
    core = Tokenizer(models.BPE(vocabulary, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        shape.pop("kind"), **shape, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    # transformers may load another class of tokenizer than was saved, one that splits text differently.
    read = AutoTokenizer.from_pretrained(folder)(string.ascii_letters)["input_ids"]
    if read != [vocabulary[letter] for letter in string.ascii_letters]:
        raise SystemExit(f"the tokenizer of {name} does not give one token per letter: {read}")


def data_tokens(rows: list[dict]) -> int:
    """Count what both sides must see: every answer with its prompt and an end token."""
    answers = [(row["prompt"], row[key]) for row in rows for key in ("chosen", "rejected", "completion") if key in row]
    return sum(len(prompt) + len(answer) + 1 for prompt, answer in answers)


def model_and_rows(workload: str, name: str, count: int, work: Path) -> tuple[Path, Path]:
    """Return the model's folder and the file of rows, written once per invocation."""
    folder, file = work / name, work / f"{workload}-{name}-{count}.jsonl"
    if not folder.is_dir():
        program = f"import training; from pathlib import Path; training.write_model({name!r}, Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, check=True)
    if not file.is_file():
        rows = make_rows(workload, count)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder, file


# --- measuring --------------------------------------------------------------------------------------------------------


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def report(options: argparse.Namespace, ready: float, ends: list[float], tokens: list[int]) -> dict:
    """Say what the steps after the first one took; `ends` are the clock's readings at the end of every step."""
    rows = [json.loads(line) for line in Path(options.data).read_text(encoding="utf-8").splitlines()]
    if len(rows) == options.steps * options.batch and sum(tokens[:-1]) != data_tokens(rows):
        raise SystemExit(f"an epoch had {sum(tokens[:-1])} tokens, the data have {data_tokens(rows)}")
    return {
        "ready": ready,
        "tokens": sum(tokens[1:]),
        "seconds": ends[-1] - ends[0],
        "speed": sum(tokens[1:]) / (ends[-1] - ends[0]),
        "peak": peak_mib(),
    }


def train_fairlead(options: argparse.Namespace) -> dict:
    from fairlead.training.config import TrainConfig
    from fairlead.training.loop import accelerator_for
    from fairlead.training.run import prepare
    from fairlead.training.setup import gather

    config = TrainConfig(
        model=options.folder, data=options.data, objective=options.workload, batch_size=options.batch,
        max_steps=options.steps + 1, dtype="bfloat16", learning_rate=1e-5, max_length=1024,
    )  # fmt: skip
    materials = gather(config)
    with accelerator_for(config, options.work) as accelerator:
        run = prepare(materials, accelerator)
        ready, ends, tokens = time.process_time(), [], []
        reset_peak()
        for step in range(options.steps + 1):
            run.step()
            ends.append(time.process_time())
            groups = [materials.groups[k] for k in materials.order.at(step)]
            tokens.append(sum(len(g.prompt) + len(b.ids) for g in groups for b in g.branches))
    return report(options, ready, ends, tokens)


def train_trl(options: argparse.Namespace) -> dict:
    import trl
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    disable_progress_bars()
    special = {"dpo": {"precompute_ref_log_probs": True}, "kto": {"precompute_ref_log_probs": True}}
    fields = special.get(options.workload, {"completion_only_loss": True})
    if options.workload == "sft" and options.model == "S":
        fields["train_sampling_strategy"] = "group_by_length"
    kind = options.workload.upper()
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(options.work / "trl"), max_steps=options.steps + 1, per_device_train_batch_size=options.batch,
        use_cpu=True, bf16=True, gradient_checkpointing=False, learning_rate=1e-5, max_length=1024, report_to=[],
        logging_steps=10_000, save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, **fields,
    )  # fmt: skip
    rows = [json.loads(line) for line in Path(options.data).read_text(encoding="utf-8").splitlines()]
    trainer = getattr(trl, f"{kind}Trainer")(
        AutoModelForCausalLM.from_pretrained(options.folder, dtype="float32"),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(options.folder),
    )
    ready, ends, tokens = [], [], []

    class Clock(TrainerCallback):
        def on_train_begin(self, *args, **kwargs):
            ready.append(time.process_time())
            reset_peak()

        def on_step_end(self, *args, **kwargs):
            ends.append(time.process_time())

    own = trainer.training_step

    def training_step(model, inputs, *args, **kwargs):
        mask = inputs.get("attention_mask", inputs.get("completion_attention_mask"))
        tokens.append(int(mask.sum()))
        return own(model, inputs, *args, **kwargs)

    trainer.training_step = training_step
    trainer.add_callback(Clock())
    trainer.train()
    return report(options, ready[0], ends, tokens)


def time_head(options: argparse.Namespace) -> dict:
    """Hidden states to log-probs and back, on M's head, by both sides in turn in one process."""
    import torch
    from trl.kernels import chunked_logprob
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    from fairlead.forward.logprobs import Head, token_logprobs

    torch.manual_seed(0)
    vocabulary, width = SHAPES["M"]["vocab_size"], SHAPES["M"]["hidden_size"]
    hidden = torch.randn(HEAD_ROWS, width).requires_grad_()
    weight = (0.02 * torch.randn(vocabulary, width)).requires_grad_()
    targets, direction = torch.randint(0, vocabulary, (HEAD_ROWS,)), torch.randn(HEAD_ROWS)

    def theirs() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return chunked_logprob.ChunkedLogProbFunction.apply(
                hidden, weight, None, targets, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs",)
            )[0]

    def ours() -> torch.Tensor:
        return token_logprobs(hidden, Head(weight), targets, dtype=torch.bfloat16)

    gap = float((theirs() - ours()).detach().abs().max())
    if gap > 0.02:
        raise SystemExit(f"the two heads differ by {gap} nats")
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(options.repeat + 1):
        for side, head in zip(SIDES, (theirs, ours)):
            hidden.grad = weight.grad = None
            began = time.process_time()
            head().backward(direction)
            if turn:
                seconds[side].append(time.process_time() - began)
    return {side: {"seconds": values} for side, values in seconds.items()}


# --- one process per measurement --------------------------------------------------------------------------------------


def environment(options: argparse.Namespace) -> dict[str, str]:
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
    local = {"HF_HUB_OFFLINE": "1", "FAIRLEAD_CACHE": str(options.work / "cache")}
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)} if options.keep_memory else {}
    return {**os.environ, **threads, **quiet, **local, **kept}


def measure(options: argparse.Namespace, side: str, *, script: str = __file__, **changes) -> dict:
    """Measure in a fresh process of the same interpreter and return what `script` printed last."""
    given = {**{k: v for k, v in vars(options).items() if k not in ("workloads", "models")}, **changes, "side": side}
    command = [sys.executable, script, "--inside", json.dumps(given, default=str)]
    done = subprocess.run(command, env=environment(options), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} {changes}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def inside(given: dict) -> None:
    import torch

    options = argparse.Namespace(**given)
    options.work = Path(options.work)
    torch.set_num_threads(options.threads)
    jobs = {"trl": train_trl, "fairlead": train_fairlead, "both": time_head}
    print(json.dumps(jobs[options.side](options)))


def import_seconds(options: argparse.Namespace, side: str) -> float:
    program = f"import time; {IMPORTS[side]}; print(time.process_time())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(options), capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


# --- the table --------------------------------------------------------------------------------------------------------


def spread(values: list[float], digits: int) -> str:
    """Write the median with the least and the greatest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def line(what: str, model: str, theirs: list[float], ours: list[float], digits: int, *, more: bool) -> str:
    """Write a row; the ratio says how often better ours is when `more` is better, else which share of theirs it is."""
    ratio = statistics.median(ours) / statistics.median(theirs)
    pairs = sorted(b / a for a, b in zip(theirs, ours))
    sense = "higher is better" if more else "lower is better"
    cells = [what, model, spread(theirs, digits), spread(ours, digits), f"{ratio:.2f} ({pairs[0]:.2f}-{pairs[-1]:.2f})"]
    return "| " + " | ".join([*cells, sense]) + " |"


def compare(options: argparse.Namespace, workload: str, model: str) -> list[str]:
    batch = BATCH[workload, model]
    folder, data = model_and_rows(workload, model, batch * options.steps, options.work)
    found: dict[str, list[dict]] = {side: [] for side in SIDES}
    for _ in range(options.repeat):
        for side in SIDES:
            job = {"workload": workload, "model": model, "batch": batch, "folder": folder, "data": data}
            found[side].append(measure(options, side, **job))
            print(f"# {workload} {model} {side}: {json.dumps(found[side][-1])}", file=sys.stderr, flush=True)

    def row(what: str, key: str, digits: int, *, more: bool) -> str:
        theirs, ours = ([one[key] for one in found[side]] for side in SIDES)
        return line(f"{workload}: {what}", model, theirs, ours, digits, more=more)

    return [row("tokens/s", "speed", 0, more=True), row("peak MiB", "peak", 0, more=False)]


def compare_head(options: argparse.Namespace) -> list[str]:
    found = measure(options, "both")
    theirs, ours = (found[side]["seconds"] for side in SIDES)
    return [line(f"head: seconds, {HEAD_ROWS} tokens", "M", theirs, ours, 2, more=False)]


def compare_start(options: argparse.Namespace) -> list[str]:
    folder, data = model_and_rows("sft", "S", 16, options.work)
    imported: dict[str, list[float]] = {side: [] for side in SIDES}
    ready: dict[str, list[float]] = {side: [] for side in SIDES}
    job = {"workload": "sft", "model": "S", "batch": 8, "folder": folder, "data": data, "steps": 1}
    for turn in range(options.repeat + 1):
        for side in SIDES:
            one, other = import_seconds(options, side), measure(options, side, **job)["ready"]
            if turn:  # the first turn fills the file cache
                imported[side].append(one)
                ready[side].append(other)
    return [
        line("start: seconds to import", "-", imported["trl"], imported["fairlead"], 2, more=False),
        line("start: seconds to step 1", "S", ready["trl"], ready["fairlead"], 2, more=False),
    ]


def machine() -> str:
    """Say in words what the figures were measured on."""
    import torch
    import transformers
    import trl

    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    names = {line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")}
    units = [label for flag, label in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 bf16")) if flag in text]
    return (
        f"{os.cpu_count()} cores of {', '.join(sorted(names)) or platform.machine()} "
        f"({', '.join(units) or 'no bf16 instructions'}); torch {torch.__version__}, "
        f"transformers {transformers.__version__}, trl {trl.__version__}, Python {platform.python_version()}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
    parser.add_argument("--models", nargs="+", default=["S", "M"], choices=SHAPES)
    parser.add_argument("--steps", type=int, default=6, help="measured steps per process (default 6)")
    parser.add_argument("--repeat", type=int, default=3, help="turns of the two sides (default 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-memory", action="store_true", help="glibc keeps freed blocks, on both sides")
    options = parser.parse_args()
    print(f"{time.strftime('%Y-%m-%d')}; {machine()}; {options.threads} thread, CPU seconds\n")
    print("| what | model | TRL: median (low-high) | Fairlead | Fairlead / TRL | |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as work:
        options.work = Path(work)
        for workload in options.workloads:
            if workload in TRAINING:
                lines = (compare(options, workload, model) for model in options.models)
            else:
                lines = iter([{"head": compare_head, "start": compare_start}[workload](options)])
            for found in lines:
                print("\n".join(found), flush=True)


if __name__ == "__main__":
    main()
