"""The commands that are single steps: their flags are the fields of the step's dataclass, their values are YAML.

Each is a run of a one-step recipe, so it has a run folder, goes on after a kill, and ends with a report.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from fairlead import steps
from fairlead.fields import FieldInfo, describe

__all__ = [
    "evaluate",
    "export",
    "generate",
    "harness",
    "new_model",
    "select",
    "synthesize",
    "train",
    "train_retriever",
    "write_guidelines",
    "write_requests",
]

_OWN = {
    "out": (Path | None, None, "Run folder; the same one goes on where it stopped. By default `runs/<command>`."),
    "explain": (bool, False, "Say what would be done, and stop."),
    "force": (bool, False, "Set an earlier result with other settings aside and run again."),
    "quiet": (bool, False, "Show no progress."),
}


def _command(kind: str, text: str) -> Callable[..., int]:
    cls = steps.find(kind).load()
    known = describe(cls)

    def command(**flags: Any) -> int:
        own = {name: flags.pop(name, default) for name, (_, default, _) in _OWN.items()}
        return _run(kind, {name: value for name, value in flags.items() if value is not None}, **own)

    parameters = [_field_parameter(field) for field in known]
    parameters += [_own_parameter(name, *described) for name, described in _OWN.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__name__ = kind
    command.__doc__ = text
    return command


def _field_parameter(field: FieldInfo) -> inspect.Parameter:
    text = " ".join(field.doc.split())
    if not field.required and field.default is not None:
        text += f" [default: {_shown(field.default)}]"
    annotation = Annotated[
        str, Parameter(help=text, show_default=False, allow_leading_hyphen=True, metavar=_metavar(field))
    ]
    default: Any = inspect.Parameter.empty
    if field.type == "bool":
        annotation = Annotated[bool | None, Parameter(help=text, show_default=False)]
    if not field.required:
        annotation, default = annotation | None, None  # type: ignore[operator]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _own_parameter(name: str, kind: Any, default: Any, text: str) -> inspect.Parameter:
    described = Parameter(help=text, show_default=False, negative="", group="Of the run")
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, described]
    )


def _metavar(field: FieldInfo) -> str:
    """Return what a value looks like: the choices, or the type without brackets, which help takes as markup."""
    choices = re.search(r"Literal\[(.*?)\]", field.type)
    if choices:
        return "|".join(re.findall(r"['\"](.*?)['\"]", choices[1]))
    plain = field.type.replace(" | None", "")
    while (inner := re.sub(r"\[[^\[\]]*\]", "", plain)) != plain:
        plain = inner
    return plain.replace("tuple", "list").replace("dict", "mapping").replace("Mapping", "mapping")


def _shown(default: Any) -> str:
    from fairlead.fields import to_plain

    plain = to_plain(default)
    return "(nothing)" if plain in ([], "") else str(plain)


def _run(kind: str, flags: dict[str, Any], out: Path | None, explain: bool, force: bool, quiet: bool) -> int:
    from fairlead.recipe import command_recipe, run
    from fairlead.recipe.document import parse_value

    values = {
        name: parse_value(value, f"--{name.replace('_', '-')}") if isinstance(value, str) else value
        for name, value in flags.items()
    }
    recipe = command_recipe(kind, values, title=f"fairlead {kind.replace('_', '-')}")
    if explain:
        from fairlead.cli.runs import print_explanation

        return print_explanation(recipe)
    result = run(recipe, out or Path("runs") / kind, force=force, quiet=quiet)
    for path in result.outputs[kind].values():
        print(path)
    return 0


train = _command(
    "train",
    """Train a model with any objective.

    The result is a plain Hugging Face folder, `OUT/steps/train/model`. Ctrl-C saves; the same command goes on.

    For example:

    ```
    fairlead train --model harbor:base-1m --data 'harbor:demonstrations?n=1000' --learning-rate 5e-4 --epochs 2
    fairlead train --model runs/sft/steps/train/model --data pairs.jsonl \\
        --objective '{name: dpo, beta: 0.1}' --out runs/dpo
    fairlead train --model org/model --data hh.jsonl.gz --format hh --objective reward_model \\
        --adapter '{type: lora, r: 16}' --dtype bfloat16
    fairlead train --model harbor:base-1m --data mine.jsonl --explain
    ```
    """,
)
generate = _command(
    "generate",
    """Answer prompts and keep all answers, the best, pairs of best and worst, or rankings.

    Writes `OUT/steps/generate/records.jsonl`, which `fairlead train` reads.

    For example:

    ```
    fairlead generate --model harbor:aligned-1m --data 'harbor:test?n=20' --temperature 0 --max-tokens 48
    fairlead generate --model harbor:aligned-1m --data 'harbor:prompts?n=800' --n 4 --max-tokens 48 \\
        --reward '{name: harbor, axis: total}' --keep best_worst --out runs/pairs
    fairlead generate --model 'http://localhost:8000/v1#my-model' --data prompts.jsonl --limit 100
    ```
    """,
)
synthesize = _command(
    "synthesize",
    """Make new records from seed records with a synthesizer.

    Writes `OUT/steps/synthesize/records.jsonl`, which `fairlead train` reads.

    For example:

    ```
    fairlead synthesize --synthesizer '{name: honesty_targets, reward: {name: harbor, axis: correct}}' \\
        --models '{model: harbor:base-300k}' --data 'harbor:prompts?n=400&kinds=fact,unk' --out runs/targets
    ```
    """,
)
select = _command(
    "select",
    """Keep the records that a selector chooses, and say why the others are left out.

    Writes `OUT/steps/select/records.jsonl`, a table of all records beside it, and shows both in the report.

    For example:

    ```
    fairlead select --data 'harbor:pool?n=2000' --selector '{name: reward_threshold, reward: harbor, keep: 0.1}'
    fairlead select --data scored.jsonl --selector '{name: reward_threshold, column: reward, above: 0.5}'
    ```
    """,
)
write_requests = _command(
    "write_requests",
    """Have a model write requests whose answers could do harm, of fourteen kinds, for `fairlead write-guidelines`.

    Writes `OUT/steps/write_requests/records.jsonl`.

    For example:

    ```
    fairlead write-requests --model 'http://localhost:8000/v1#my-model' --writing '{each: 50}' --out runs/requests
    ```
    """,
)
write_guidelines = _command(
    "write_guidelines",
    """Write a library of guidelines for requests: what is dangerous, and what a good answer keeps to.

    Writes `OUT/steps/write_guidelines/library.jsonl`, which `fairlead train-retriever` and the decoding method
    `guidelines` read.

    For example:

    ```
    fairlead write-guidelines --model 'http://localhost:8000/v1#my-model' --data requests.jsonl --out runs/library
    ```
    """,
)
train_retriever = _command(
    "train_retriever",
    """Train two encoders to find the guidelines that suit a request, and measure them on held-out requests.

    The result is a folder, `OUT/steps/train_retriever/retriever`: the `embedder` of the decoding method `guidelines`
    with `retriever: trained`.

    For example:

    ```
    fairlead train-retriever --model harbor:base-300k --pooling mean --library 'harbor:guidelines?n=400' \\
        --similarity cosine --epochs 5 --learning-rate 1e-3 --out runs/retriever
    fairlead train-retriever --model org/sentence-model --library library.jsonl --similarity cosine --epochs 1
    ```
    """,
)
evaluate = _command(
    "evaluate",
    """Compare models on held-out data, under any evaluators, side by side in one report.

    For example:

    ```
    fairlead evaluate --models '{base: harbor:base-1m, aligned: harbor:aligned-1m}' --data 'harbor:test?n=200' \\
        --evaluators '[{name: rewards, reward: harbor, axes: [total, correct, harmless]}, length]' \\
        --sampling '{temperature: 0, max_tokens: 48}'
    fairlead evaluate --models '{sft: runs/sft/model, dpo: runs/dpo/model}' --data pairs.jsonl \\
        --evaluators '[pair_accuracy]'
    ```
    """,
)
new_model = _command(
    "new_model",
    """Make a tokenizer and a small untrained model from your own text; no hub is needed.

    The tokenizer is a byte-level BPE with a chat template, the model a Llama of the size you name.

    For example:

    ```
    fairlead new-model --data notes.txt --parameters 3M --out runs/mine
    fairlead new-model --data dialogues.jsonl.gz --format hh --vocab-size 8192 --layers 4 --hidden 256
    ```
    """,
)
harness = _command(
    "harness",
    """Run tasks of lm-evaluation-harness on models and decoding methods, and report on them.

    The harness is the extra `harness`; it runs in a process of its own and fetches its tasks' data itself.

    For example:

    ```
    fairlead harness --models '{base: harbor:base-1m, dpo: runs/dpo/steps/train/model}' --tasks '[gsm8k]' --limit 100
    fairlead harness --models '{served: "http://127.0.0.1:8000/v1#ship"}' --tasks '[mine]' --task-folder tasks
    ```
    """,
)
export = _command(
    "export",
    """Merge adapters, change the number format, save a plain Hugging Face folder, and check the copy's logits.

    For example:

    ```
    fairlead export --model runs/lora/steps/train/model --dtype bfloat16 --out runs/merged
    fairlead export --model harbor:aligned-1m --dtype float32
    ```
    """,
)
