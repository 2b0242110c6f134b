"""Score-first diverse selection beside the row-by-row form that defines it: CPU seconds, and whether rows are the same.

    OMP_NUM_THREADS=1 python benchmarks/selection.py [--rows 20000] [--keep 2000] [--directions 20000] [--lean]
        [--repeat 9]
    OMP_NUM_THREADS=2 python benchmarks/selection.py --large [--rows 1000000] [--keep 10000]
    OMP_NUM_THREADS=1 python benchmarks/selection.py --passes [--rows 100000]

The cloud is clustered as pools of instructions are: 20,000 directions of 384 numbers, around each of which rows lie
more or less tightly, in the order of random scores. Row by row, as the published code does it: for every candidate the
accepted rows are taken anew from an array of float64, turned into float32, brought to length 1 twice over and
multiplied by the candidate. --lean spares the other side all but the taking anew and the product, in float64.
--large keeps the rows in a file and says what it takes in seconds and memory, without the other side. --passes is
float32 beside bfloat16, and block sizes.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fairlead.selection.filtering import diverse, nearest

DIRECTIONS, SIZE = 20_000, 384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--keep", type=int)
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--lean", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--passes", action="store_true")
    args = parser.parse_args()
    if args.large:
        large(args.rows or 1_000_000, args.keep or 10_000)
    elif args.passes:
        passes(args.rows or 100_000, args.keep, args.repeat)
    else:
        beside(args.rows or 20_000, args.keep, args.directions, args.repeat, as_published if not args.lean else lean)


def beside(rows: int, keep: int | None, directions: int, repeat: int, other) -> None:
    """Both forms on the same cloud, in turns; medians, and the least and most of the ratios of two that ran in turn."""
    vectors, order = np.concatenate(list(cloud(rows, directions))), scores(rows)
    wide = vectors.astype(np.float64)
    diverse(vectors[:2000], np.arange(2000))
    ours, theirs = [], []
    for _ in range(repeat):
        plain, expected = timed(lambda: row_by_row(wide, order, keep, other))
        spent, found = timed(lambda: diverse(vectors, order, keep=keep))
        assert found.kept.tolist() == expected
        ours.append(spent)
        theirs.append(plain)
    print(f"{rows:,} rows, keep {keep or 'all'}: {len(found.kept):,} kept of {found.visited:,} visited, the same rows")
    ratios = np.divide(theirs, ours)
    spread = f"{ratios.min():.0f} to {ratios.max():.0f} in {repeat}"
    plain, spent = np.median(theirs), np.median(ours)
    print(f"row by row ({other.__name__}) {plain:.2f} s, Fairlead {spent:.4f} s, ratio {plain / spent:.0f} ({spread})")


def large(rows: int, keep: int) -> None:
    """One run from a memory map."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.f32"
        with path.open("wb") as stream:
            for part in cloud(rows):
                part.tofile(stream)
        vectors = np.memmap(path, np.float32, "r").reshape(rows, SIZE)
        order = scores(rows)
        start = time.perf_counter()
        cpu, found = timed(lambda: diverse(vectors, order, keep=keep))
        wall = time.perf_counter() - start
        print(f"{rows:,} rows, keep {keep:,}: {len(found.kept):,} kept of {found.visited:,} visited")
        print(f"{wall:.1f} s, {cpu:.1f} CPU s on {torch.get_num_threads()} threads, peak {peak():.0f} MiB")
        start = time.perf_counter()
        cpu, near = timed(lambda: nearest(vectors, found.kept))
        wall = time.perf_counter() - start
        print(f"nearest kept row of every row: {wall:.1f} s, {cpu:.1f} CPU s, peak {peak():.0f} MiB")
        print(f"covered at 0.9: {np.mean(near.similarity > 0.9):.3f}")


def passes(rows: int, keep: int | None, repeat: int) -> None:
    """Precisions of the first pass, and block sizes."""
    vectors, order = np.concatenate(list(cloud(rows))), scores(rows)
    kept = None
    for first_pass in ("float32", "bfloat16"):
        for block in (512, 1024, 4096):
            work = partial(diverse, vectors, order, keep=keep, block=block, first_pass=first_pass)
            spent, found = min((timed(work) for _ in range(repeat)), key=lambda t: t[0])
            assert kept is None or kept == found.kept.tolist()
            kept = found.kept.tolist()
            print(f"{first_pass} block {block}: {spent:.2f} s, {found.rechecked:,} pairs again, {len(kept):,} kept")


def cloud(rows: int, directions: int = DIRECTIONS, at_once: int = 50_000):
    """Yield the rows, float32 [at_once, SIZE] each."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((directions, SIZE), np.float32)
    spread = draw.uniform(0.05, 0.33, directions).astype(np.float32)
    for start in range(0, rows, at_once):
        count = min(at_once, rows - start)
        which = draw.integers(directions, size=count)
        noise = draw.standard_normal((count, SIZE), np.float32)
        yield centres[which] + spread[which, None] * noise


def scores(rows: int) -> np.ndarray:
    """Return an order of the rows, as if by a score."""
    return np.random.default_rng(1).permutation(rows)


def row_by_row(wide: np.ndarray, order: np.ndarray, keep: int | None, cosines, limit: float = 0.9) -> list[int]:
    """Return the rows kept, one candidate after the other; `wide` is float64 [N, D]."""
    wide = wide / np.linalg.norm(wide, axis=1, keepdims=True) if cosines is lean else wide
    kept: list[int] = []
    for i in order.tolist():
        if not kept or float(cosines(wide[kept], wide[i]).max()) <= limit:
            kept.append(i)
        if len(kept) == keep:
            break
    return kept


def as_published(accepted: np.ndarray, candidate: np.ndarray) -> torch.Tensor:
    """Return cosines [M] the published way."""
    accepted, candidate = (torch.tensor(part, dtype=torch.float32) for part in (accepted, candidate[None]))
    for _ in range(2):
        accepted, candidate = (part / part.norm(dim=1)[:, None] for part in (accepted, candidate))
    return candidate @ accepted.T


def lean(accepted: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Return cosines [M] of rows that have length 1 already."""
    return accepted @ candidate


def timed(work):
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def peak() -> float:
    """Return the most memory that this process held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
