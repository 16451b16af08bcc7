"""Which networks underfire takes, and which interpreter fits which: docs/compatibility.md, from what really ran.

    python benchmarks/compatibility.py            every network without rows, then the page
    python benchmarks/compatibility.py --workers 15    so many networks at a time, each on one thread
    python benchmarks/compatibility.py --page     the page alone, from the rows that are there
    python benchmarks/compatibility.py --again cam    one interpreter anew, on every network
    python benchmarks/compatibility.py resnet18   networks whose name has this word, anew

Weights are random; batch norms have the statistics of clouds and noise. An interpreter works if it explains an image
and gives an attack a finite slope; otherwise its own sentence says why it does not. Rows are kept in
benchmarks/results/compatibility.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from networks import Made, networks
from underfire import registry
from underfire.core import Goal, UnderfireError
from underfire.interpreters.checked import explain
from underfire.plan.check import check, trial_images

HERE = Path(__file__).parent
ROWS = HERE / "results" / "compatibility.csv"
PAGE = HERE.parent / "docs" / "compatibility.md"
COLUMNS = ("network", "kind", "px", "what", "works", "reason", "seconds", "versions")
LOADED = "loads"
SHORT = {"mask": {"record": 20}}
"""Options that make an attack's start cheap: whether there is a map and a slope is all that counts here."""
UNMOVED = "its map stays as it is: of this untrained network, its loss has no slope on any of six trials"
ALONE = ("ensemble",)
"""Interpreters that belong to an alarm, and fit wherever its members do."""
PACKAGES = ("torch", "timm", "torchvision", "transformers", "onnx", "onnx2torch", "onnxruntime", "open_clip_torch")


def few(name: str, side: int) -> dict[str, Any]:
    """Give options that make an interpreter's map cheap, likewise."""
    cells = {"patch": side // 4, "stride": side // 4}
    known = {"mask": {"steps": 5}, "ig": {"steps": 4}, "smoothgrad": {"n": 4}, "rise": {"n": 32}, "occlusion": cells}
    return known.get(name, {"n": 64} if name in ("lime", "kernelshap") else {})


def interpreters() -> list[str]:
    """Names of all interpreters that stand alone, as the registry has them; a library's name is no interpreter."""
    names = registry.names("interpreters")
    return [name for name in names if name not in ALONE and not registry.of_library("interpreters", name)]


def tried(made: Made, folder: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Load a network and try each interpreter on it; a row for each, and one for the loading."""
    start = time.monotonic()
    classifier: Any = None
    row = {"network": made.name, "kind": made.kind, "px": made.side, "versions": versions()}
    try:
        classifier = made.build(folder)
        check(classifier)
        why = ""
    except Exception as e:
        why = sentence(e)
    yield {**row, "what": LOADED, "works": not why, "reason": why, "seconds": round(time.monotonic() - start, 1)}
    for name in names if not why else ():
        start = time.monotonic()
        problem = misfit(classifier, name)
        yield {
            **row,
            "what": name,
            "works": not problem,
            "reason": problem,
            "seconds": round(time.monotonic() - start, 1),
        }


def misfit(classifier: Any, name: str) -> str:
    """Say why an interpreter does not fit a classifier; '' where it explains an image and gives an attack a slope.

    Three images and two classes of each are tried: in an untrained network the evidence for a class is often 0.
    """
    x = trial_images(*classifier.preprocess.shape)
    said = ""
    try:
        interpreter = registry.build_interpreter(name, classifier, few(name, min(classifier.preprocess.size)))
        with torch.no_grad():
            z = classifier.logits(x)
        for row in (1, 0, 2):
            for y in (z[row].argmax(), z[row].argmin()):
                said = stays(interpreter, x[row : row + 1], y[None], len(classifier.classes))
                if not said:
                    return ""
    except Exception as e:
        return sentence(e)
    return said


def stays(interpreter: Any, x: torch.Tensor, y: torch.Tensor, k: int) -> str:
    """Say why an image has no map, or its map does not move; '' where it does."""
    maps, errors = explain(interpreter, x, y)
    if errors:
        return errors[0]
    wanted = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    goal = Goal(y, (y + 1) % k, {interpreter.name: wanted.to(x)})
    surrogate = interpreter.surrogate(x, goal, **SHORT.get(interpreter.name, {}))
    near = (x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1).requires_grad_()
    slope = torch.autograd.grad(surrogate.terms(near).loss.sum(), near)[0]
    if not bool(slope.isfinite().all()):
        return "With these random weights the slope of its loss is not finite: an attack stops and says so."
    return "" if bool(slope.any()) else UNMOVED


def sentence(error: Exception) -> str:
    """An error as one sentence; what is no sentence of ours is marked as a fault of ours."""
    said = " ".join((str(error).strip() or type(error).__name__).split())
    return said if isinstance(error, UnderfireError) else f"FAULT {type(error).__name__}: {said[:300]}"


def versions() -> str:
    return " ".join(f"{package}={found}" for package in PACKAGES if (found := version_of(package)))


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def stored() -> list[dict[str, str]]:
    if not ROWS.is_file():
        return []
    with ROWS.open(newline="") as file:
        return list(csv.DictReader(file))


def kept(rows: list[dict[str, Any]]) -> None:
    ROWS.parent.mkdir(exist_ok=True)
    part = ROWS.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(ROWS)  # stopped in between, nothing is lost


def measure(words: list[str], again: list[str], workers: int) -> None:
    """Try every network and interpreter without a row; the networks and interpreters that are named, anew."""
    old = [row for row in stored() if not any(word in row["network"] for word in words)]
    rows: list[dict[str, Any]] = [row for row in old if row["what"] not in again]
    order = {made.name: n for n, made in enumerate(networks())}
    for new in each(list(todo(rows, words)), workers):
        have = {row["what"] for row in rows if row["network"] == new[0]["network"]}
        rows += [row for row in new if row["what"] not in have]
        rows.sort(key=lambda row: order.get(row["network"], len(order)))
        kept(rows)
        print(new[0]["network"], *(f"{row['what']}:{'yes' if row['works'] else 'no'}" for row in new), flush=True)


def todo(rows: list[dict[str, Any]], words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the networks that lack rows, and the interpreters that they lack."""
    for made in networks():
        if words and not any(word in made.name for word in words):
            continue
        mine = {row["what"]: row for row in rows if row["network"] == made.name}
        names = [name for name in interpreters() if name not in mine]
        if LOADED not in mine or (names and mine[LOADED]["works"] == "True"):
            yield made.name, names


def each(jobs: list[tuple[str, list[str]]], workers: int) -> Iterable[list[dict[str, Any]]]:
    """Try networks, several at a time where there are workers."""
    if workers < 2:
        return map(attempt, jobs)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,), max_tasks_per_child=4)
    return pool.map(attempt, jobs)


def attempt(job: tuple[str, list[str]]) -> list[dict[str, Any]]:
    """Try one network with these interpreters."""
    name, names = job
    made = next(one for one in networks() if one.name == name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(tried(made, Path(folder), names))


# -- the page ---------------------------------------------------------------------------------------------------------

HEAD = """# Which networks underfire takes

Made by `python benchmarks/compatibility.py` with
{versions}.

Every line ran: the network with random weights, loaded by its name or file as a user would, on inputs of the size
shown. An interpreter works (✓) if it explains one of three images, with few samples where it draws any, and gives an
attack a slope. A number is the reason why it does not, in its own words, below. A dash: not tried yet.

{networks} networks, {loaded} of them loaded; {cells} pairs of network and interpreter, {works} of them work.

Whatever is not here: `underfire.wrap` takes any PyTorch network whose output has a gradient to its input, and
`--weights` takes checkpoints of Lightning, timm, DDP, `torch.compile` and robustness benchmarks as they are.
"""


def page(rows: list[dict[str, Any]]) -> str:
    """Write the page: a table for each kind of network, and the reasons."""
    rows = [row for row in rows if row["what"] in (LOADED, *interpreters())]
    names = [name for name in dict.fromkeys(row["what"] for row in rows) if name != LOADED]
    reasons: dict[str, int] = {}
    cells = [row for row in rows if row["what"] != LOADED]
    loads = [row for row in rows if row["what"] == LOADED]
    head = HEAD.format(
        versions="; or\n".join(said.replace(" ", ", ").replace("=", " ") for said in sets_of_versions(rows)),
        networks=len(loads),
        loaded=sum(row["works"] == "True" for row in loads),
        cells=len(cells),
        works=sum(row["works"] == "True" for row in cells),
    )
    tables = [table(kind, rows, names, reasons) for kind in dict.fromkeys(row["kind"] for row in rows)]
    listed = "\n".join(f"{n}. {reason}" for reason, n in reasons.items())
    return f"{head}\n" + "\n".join(tables) + f"\n## Reasons\n\n{listed}\n"


def sets_of_versions(rows: list[dict[str, Any]]) -> list[str]:
    """Which versions the rows were made with; a set that is a part of another is not said twice."""
    said = {row["versions"]: set(row["versions"].split()) for row in rows}
    return [text for text, one in said.items() if not any(one < other for other in said.values())]


def table(kind: str, rows: list[dict[str, Any]], names: list[str], reasons: dict[str, int]) -> str:
    lines = [f"## {kind}", "", f"| network | px | {LOADED} | {' | '.join(names)} |", "|---" * (len(names) + 3) + "|"]
    found = {(row["network"], row["what"]): row for row in rows if row["kind"] == kind}
    for network in dict.fromkeys(name for name, _ in found):
        shown = [mark(found.get((network, what)), reasons) for what in (LOADED, *names)]
        lines.append(f"| `{network}` | {found[network, LOADED]['px']} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def mark(row: dict[str, Any] | None, reasons: dict[str, int]) -> str:
    """A tick, or the number of the reason; the network's own name is no part of a reason."""
    if row is None:
        return "–"
    if row["works"] == "True":
        return "✓"
    reason = row["reason"].replace(row["network"], "NAME").replace("'NAME'", "the network")
    reason = reason.replace("'network'", "the network").replace("--classifier network", "--classifier NAME")
    return str(reasons.setdefault(reason, len(reasons) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of names of networks to try anew")
    parser.add_argument("--again", action="append", default=[], metavar="NAME", help="an interpreter to try anew")
    parser.add_argument("--workers", type=int, default=1, help="networks that are tried at the same time")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    given = parser.parse_args()
    if not given.page:
        measure(given.words, given.again, given.workers)
    PAGE.write_text(page(stored()))


if __name__ == "__main__":
    main()
