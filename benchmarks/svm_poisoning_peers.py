"""Poisoning a linear SVM: what it costs and what it does, beside the Adversarial Robustness Toolbox and secml.

    python benchmarks/svm_poisoning_peers.py --art ART_PYTHON --secml SECML_PYTHON [--splits 6] [--art-twenty 1]
    python benchmarks/svm_poisoning_peers.py --art ART_PYTHON --secml SECML_PYTHON --quick

``ART_PYTHON`` and ``SECML_PYTHON`` are interpreters of environments of their own, with adversarial-robustness-toolbox
1.20.1 (and packaging, which it imports without saying so) and with secml 0.15.6, which runs on Python 3.11 with
"numpy<2" "scipy<1.14" "scikit-learn<1.6" "matplotlib<3.9" joblib Pillow requests python-dateutil, installed with
``pip install --no-deps --ignore-requires-python secml==0.15.6``. A peer that is not given, or fails, is left out, and
why is recorded.

Data: MNIST's 1 and 7 among its first 10,000 training rows, pixels in [0, 1]; a split is 100 training, 400 validation
and about 1,700 test rows. All attacks know training and validation rows, and begin with the same 1 or 20 validation
rows under the other label. Each measurement is a process of its own with one BLAS thread, the attacks in turn within
a split; imports and reading are not counted. Every poison is judged by one victim: scikit-learn's
``SVC(kernel="linear", C=1)`` trained on training rows and poison, on the test rows.

What was set, and why:

- ours: the surrogate's penalty is that of the victim, 1 / (C N) of the mean loss; the other settings were chosen by the
  victim's error on validation rows: ranges were tried on three other splits of these images, the choice was made on
  other images (``--pilot`` has those, rows 10,000 to 19,999). ``mithridate`` is the default attack with 500 steps of
  training, ``cheap`` has 200, and 30 outer steps. No error on test rows was looked at for it.
- ART: ``eps`` beyond reach, since its loop ends on progress (with 1 it ends after 2 or 3 iterations); 10 iterations as
  long as our first step. It gets ``SVC(probability=True)``, without which it fails, and copies, since it writes into
  its input. Its rows are found one by one, each as if it were alone, so 20 rows cost 20 times one: an extrapolation
  where it says so, a measurement on the first ``--art-twenty`` splits.
- secml: the solver of its MNIST tutorial with both of its distances (l1, its default, moves one pixel an iteration),
  once over all rows as is its default, and in three passes; and a solver with short steps. All are shown.

Splits draw from the same rows, so their intervals (Student's t over splits) speak of other splits of these images.
``times_ours`` are medians over splits of ratios to ``mithridate`` in the same split, with their range. ``load_before``
is how many processes wanted a core in the minute before; where others did, the CPU seconds say what one core needs.
``--quick`` and ``--pilot`` print and write nothing; the rest goes to ``benchmarks/results/svm-poisoning-peers.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PLACE = Path(__file__).resolve().parent / "results" / "svm-poisoning-peers.json"
TRAIN, VALIDATION = 100, 400
PENALTY = 1.0
"""C of the victim."""
_TUTORIAL = {"eta": 0.25, "eta_min": 2.0, "eta_max": None, "max_iter": 100, "eps": 1e-6}
_SHORT = {"eta": 0.05, "eta_min": 0.05, "eta_max": None, "max_iter": 20, "eps": 1e-6}
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mithridate": ("ours", {"attack": {}, "surrogate": {"steps": 500, "lr": 0.02, "temperature": 0.2}}),
    "mithridate, cheap": (
        "ours",
        {"attack": {"steps": 30}, "surrogate": {"steps": 200, "lr": 0.05, "temperature": 0.5}},
    ),
    "ART": ("art", {"step": 1.0, "eps": 1e9, "max_iter": 10}),
    "secml, l1": ("secml", {"distance": "l1", "solver": _TUTORIAL, "passes": 1}),
    "secml, l2": ("secml", {"distance": "l2", "solver": _TUTORIAL, "passes": 1}),
    "secml, l2, 3 passes": ("secml", {"distance": "l2", "solver": _TUTORIAL, "passes": 3}),
    "secml, l2, short steps": ("secml", {"distance": "l2", "solver": _SHORT, "passes": 1}),
}
"""Whose it is, and what it is set to."""
QUICK = ("mithridate", "mithridate, cheap", "ART", "secml, l1", "secml, l2")
"""Those that ``--quick`` runs."""
Rows = dict[str, Any]
"""Arrays of a split: ``x`` (N, 784) float64 in [0, 1], ``y`` (N,); the same with ``v`` (validation), ``t`` (test)."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """One poison: what it cost and what it does."""

    split: int
    q: int
    attack: str
    seconds: float
    cpu_seconds: float
    error: float
    """Of the victim, on the test rows."""
    facts: dict[str, Any]
    """What the child had to say besides."""


@dataclass(kw_only=True)
class Log:
    """All that was seen."""

    found: list[Found] = field(default_factory=list)
    baselines: dict[tuple[int, int, str], float] = field(default_factory=dict)
    """The victim's error by split, number of rows and kind: ``clean``, or ``flips only`` (rows where they began)."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a peer was left out."""
    tests: int = 0
    """Test rows of a split."""


def main() -> int:
    """Measure, print, write."""
    asked = arguments()
    if asked.child:
        return child(asked.child[0], Path(asked.child[1]))
    from mithridate import runtime

    runtime.use_threads(1)
    began, load = time.monotonic(), os.getloadavg()[0]
    log = measured(asked)
    result = {**recorded(asked, log), "core_seconds": round(time.monotonic() - began), "load_before": round(load, 1)}
    print(
        json.dumps(
            {key: result[key] for key in ("measured", "skipped", "versions", "core_seconds", "load_before")}, indent=1
        )
    )
    if not (asked.quick or asked.pilot):
        PLACE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--art", metavar="PYTHON", help="interpreter with adversarial-robustness-toolbox")
    parser.add_argument("--secml", metavar="PYTHON", help="interpreter with secml")
    parser.add_argument("--splits", type=int, default=6, help="how many splits of the data (default: 6)")
    parser.add_argument(
        "--art-twenty", type=int, default=1, help="on how many of them ART makes 20 rows (minutes each)"
    )
    parser.add_argument("--quick", action="store_true", help="one split, ART cut to 2 iterations; writes nothing")
    parser.add_argument("--pilot", action="store_true", help="other images, where settings were chosen; writes nothing")
    parser.add_argument("--child", nargs=2, metavar=("WHO", "DATA"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick:
        asked.splits, asked.art_twenty = 1, 0
    return asked


def measured(asked: Any) -> Log:
    """All poisons, made in turn."""
    pythons = {"ours": sys.executable, "art": asked.art, "secml": asked.secml}
    log, pool = Log(), digits(pilot=asked.pilot)
    log.skipped = {who: "no interpreter was given" for who, python in pythons.items() if not python}
    first = 101 if asked.pilot else 0
    for split in range(first, first + asked.splits):
        for q in (1, 20):
            rows = cut(pool, split, q)
            log.tests = len(rows["ty"])
            log.baselines[split, q, "clean"] = error(rows, rows["x"][:0], rows["y"][:0])
            log.baselines[split, q, "flips only"] = error(rows, rows["start_x"], rows["start_y"])
            for name, (who, settings) in ATTACKS.items():
                long = who == "art" and q > 1 and split - first >= asked.art_twenty
                if who in log.skipped or long or (asked.quick and name not in QUICK):
                    continue
                cut_short = {"max_iter": 2} if asked.quick and who == "art" else {}
                try:
                    poison, facts = apart(pythons[who], who, {**settings, **cut_short}, rows)
                except (subprocess.SubprocessError, OSError) as reason:
                    log.skipped[who] = said(reason)
                    continue
                log.found.append(
                    Found(split=split, q=q, attack=name, error=error(rows, poison, rows["start_y"]), **facts)
                )
                print(f"split {split}, {q} rows, {name}: {log.found[-1].seconds:.2f} s", flush=True)
    return log


def said(reason: Exception) -> str:
    """The last line of what a child said before it died, or what became of it."""
    lines = reason.stderr.strip().splitlines() if isinstance(reason, subprocess.CalledProcessError) else []
    return lines[-1] if lines else type(reason).__name__


def digits(*, pilot: bool) -> Any:
    """MNIST's 1 and 7 among its first 10,000 training rows, or among the next 10,000."""
    from mithridate.datasets.named import MNIST

    train = MNIST(classes=(1, 7)).load().train
    first = 10_000 if pilot else 0
    return train.at(((train.ids >= first) & (train.ids < first + 10_000)).nonzero().flatten())


def cut(pool: Any, split: int, q: int) -> Rows:
    """A random split, and the validation rows that every attack begins with, as ours draws them."""
    import torch

    from mithridate.seeding import Seed

    order = torch.randperm(len(pool), generator=Seed(split).child("split").generator())
    edges = (0, TRAIN, TRAIN + VALIDATION, len(pool))
    rows: Rows = {"seed": np.array(split), "q": np.array(q)}
    for prefix, low, high in zip(("", "v", "t"), edges[:-1], edges[1:], strict=True):
        part = pool.at(order[low:high])
        rows[prefix + "x"] = part.all_inputs().flatten(1).double().numpy()
        rows[prefix + "y"] = part.labels.numpy()
    data, threat, aims = problem(rows)
    from mithridate.flipping import begun

    start = begun(data, threat, aims=aims, start="validation", learner=None, seed=Seed(split))
    return {**rows, "start_x": start.inputs.double().numpy(), "start_y": start.labels.numpy()}


def problem(rows: Rows) -> tuple[Any, Any, Any]:
    """A split as our attacks see it: training rows, threat model, and what is wanted."""
    import torch

    from mithridate.dataset import Dataset, Space
    from mithridate.goal import Aims, Degrade
    from mithridate.threat import ThreatModel, Unbounded

    space = Space(shape=(rows["x"].shape[1],), num_classes=2)
    data = Dataset.of(torch.from_numpy(rows["x"]).float(), torch.from_numpy(rows["y"]), space=space)
    known = torch.from_numpy(rows["vx"]).float(), torch.from_numpy(rows["vy"])
    budget = int(rows["q"]) / len(data)
    threat = ThreatModel(goal=Degrade(), budget=budget, perturbation=Unbounded(), labels="dirty", rows="append")
    return data, threat, Aims(inputs=known[0], labels=known[1], wanted=None)


def error(rows: Rows, poison: Any, labels: Any) -> float:
    """The victim's share of wrong test rows after training on clean rows and ``poison``."""
    from sklearn.svm import SVC

    if len(poison) and not (poison.min() >= 0 and poison.max() <= 1):
        raise SystemExit("a poison has pixels outside [0, 1]")
    victim = SVC(kernel="linear", C=PENALTY)
    victim.fit(np.concatenate([rows["x"], poison]), np.concatenate([rows["y"], labels]))
    return float((victim.predict(rows["tx"]) != rows["ty"]).mean())


def apart(python: str, who: str, settings: dict[str, Any], rows: Rows) -> tuple[Any, dict[str, Any]]:
    """The poison ``(q, 784)`` that a child process makes, and what it says of it. It never sees the test rows."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:  # also a home, since secml writes into it
        place = Path(folder) / "split.npz"
        given = {name: value for name, value in rows.items() if not name.startswith("t")}
        np.savez(place, settings=np.array(json.dumps(settings)), **given)
        done = subprocess.run(
            [python, __file__, "--child", who, str(place)],
            env={**os.environ, **threads, "HOME": folder, "SECML_HOME_DIR": folder},
            check=True,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        with np.load(place.with_suffix(".poison.npz")) as made:
            return made["poison"], json.loads(done.stdout.splitlines()[-1])  # others talk on stdout, too


def child(who: str, place: Path) -> int:
    """One measurement: read a split, make a poison, save it, and say what it cost."""
    with np.load(place) as stored:
        rows = {name: stored[name] for name in stored.files}
    settings = json.loads(str(rows.pop("settings")))
    craft, versions = {"ours": ours, "art": art, "secml": secml}[who](rows, settings)
    began, busy = time.perf_counter(), time.process_time()
    poison, facts = craft()
    cost = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy}
    np.savez(place.with_suffix(".poison.npz"), poison=poison)
    named = {name: metadata.version(name) for name in (*versions, "scikit-learn", "numpy", "scipy")}
    print("\n" + json.dumps({**cost, "facts": {**facts, "versions": {"python": platform.python_version(), **named}}}))
    return 0


Craft = Callable[[], tuple[Any, dict[str, Any]]]
"""Makes a poison ``(q, 784)`` float64 in [0, 1]; to be timed."""


def ours(rows: Rows, settings: dict[str, Any]) -> tuple[Craft, tuple[str, ...]]:
    """Back-gradient optimization of a smoothed hinge."""
    import torch

    from mithridate.attacks.back_gradient import BackGradient
    from mithridate.learners.gradient_descent import GradientDescent
    from mithridate.seeding import Seed

    torch.set_num_threads(1)
    data, threat, aims = problem(rows)
    surrogate = GradientDescent(
        loss="smoothed-hinge",
        standardise=False,
        l2=1 / (PENALTY * (len(rows["y"]) + len(rows["start_y"]))),
        momentum=0.9,
        **settings["surrogate"],
    )

    def craft() -> tuple[Any, dict[str, Any]]:
        attack = BackGradient(start="validation", **settings["attack"])
        poison = attack.craft(data, threat, aims=aims, surrogates=[surrogate], seed=Seed(int(rows["seed"])))
        if poison.rows.labels.tolist() != rows["start_y"].tolist():
            raise SystemExit("ours began with other rows than the peers")
        return poison.rows.inputs.double().numpy(), {"sweeps": len(poison.trace["objective"])}

    return craft, ("mithridate", "torch")


def art(rows: Rows, settings: dict[str, Any]) -> tuple[Craft, tuple[str, ...]]:
    """The toolbox's PoisoningAttackSVM."""
    from art.attacks.poisoning import PoisoningAttackSVM
    from art.estimators.classification import SklearnClassifier
    from sklearn.svm import SVC

    np.random.seed(int(rows["seed"]))  # noqa: NPY002 (it adds noise from the global generator)
    one_hot = np.eye(2)

    def craft() -> tuple[Any, dict[str, Any]]:
        network = SklearnClassifier(model=SVC(kernel="linear", C=PENALTY, probability=True), clip_values=(0, 1))
        network.fit(rows["x"], one_hot[rows["y"]])
        known = (rows["x"].copy(), one_hot[rows["y"]], rows["vx"].copy(), one_hot[rows["vy"]])
        attack = PoisoningAttackSVM(
            network, settings["step"], settings["eps"], *known, max_iter=settings["max_iter"], verbose=False
        )
        poison, _ = attack.poison(rows["start_x"].copy(), one_hot[rows["start_y"]])
        return poison, {}

    return craft, ("adversarial-robustness-toolbox",)


def secml(rows: Rows, settings: dict[str, Any]) -> tuple[Craft, tuple[str, ...]]:
    """The attack of secml, CAttackPoisoningSVM."""
    from secml.adv.attacks import CAttackPoisoningSVM
    from secml.array import CArray
    from secml.data import CDataset
    from secml.ml.classifiers import CClassifierSVM

    train, known, start = (CDataset(CArray(rows[f"{k}x"]), CArray(rows[f"{k}y"])) for k in ("", "v", "start_"))

    def craft() -> tuple[Any, dict[str, Any]]:
        victim = CClassifierSVM(C=PENALTY, kernel="linear")
        victim.fit(train.X, train.Y)
        attack = CAttackPoisoningSVM(
            victim, train, known, distance=settings["distance"], solver_params=settings["solver"], random_seed=0
        )
        attack.n_points = len(rows["start_y"])
        poison = attack.run(known.X, known.Y, ds_init=start, max_iter=settings["passes"])[2]
        return poison.X.tondarray(), {}

    return craft, ("secml",)


def recorded(asked: Any, log: Log) -> dict[str, Any]:
    """The result as it is written: nothing about the machine's paths."""
    import torch

    from mithridate import runtime

    given = [f"--{peer} {peer.upper()}_PYTHON" for peer in ("art", "secml") if getattr(asked, peer)]
    command = ["python benchmarks/svm_poisoning_peers.py", *given, f"--splits {asked.splits}"]
    return {
        "name": "svm-poisoning-peers",
        "about": "Poisoning a linear SVM on MNIST 1 against 7 (100 training rows): seconds on one thread, and the test "
        "error of SVC(kernel='linear', C=1) over splits; times_ours are medians of ratios within a split.",
        "command": " ".join([*command, f"--art-twenty {asked.art_twenty}"]),
        "environment": runtime.describe(torch.device("cpu")),
        "measured": [row for q in (1, 20) for row in summary(log, q)],
        "rows": [],
        "skipped": log.skipped,
        "settings": {name: settings for name, (_, settings) in ATTACKS.items()},
        "versions": {one.attack: one.facts["versions"] for one in log.found},
        "baselines": [{"split": k, "q": q, "case": name, "error": e} for (k, q, name), e in log.baselines.items()],
        "splits": [{**vars(one), "facts": {**one.facts, "versions": "above"}} for one in log.found],
    }


def summary(log: Log, q: int) -> list[dict[str, Any]]:
    """A line for each baseline and attack with ``q`` rows; cells as they stand in a table."""
    lines = []
    for name in ("clean", "flips only"):
        base = {split: wrong for (split, k, kind), wrong in log.baselines.items() if (k, kind) == (q, name)}
        lines.append({"case": name, "poison_rows": q, **judged(base, log.tests)})
    mine = {one.split: one for one in log.found if (one.q, one.attack) == (q, "mithridate")}
    for name in ATTACKS:
        those = {one.split: one for one in log.found if (one.q, one.attack) == (q, name)}
        if not those:
            continue
        errors = {split: one.error for split, one in those.items()}
        lines.append({"case": name, "poison_rows": q, **judged(errors, log.tests), **costs(those, mine)})
        less = {split: mine[split].error - wrong for split, wrong in errors.items() if split in mine}
        if name != "mithridate" and less:
            lines[-1]["our_error_less_theirs"] = interval(less)
    single = [one.seconds for one in log.found if (one.q, one.attack) == (1, "ART")]
    if q > 1 and single:
        about = round(q * statistics.median(single), 1)
        lines.append({"case": f"ART, extrapolated: {q} times one row", "poison_rows": q, "seconds_median": about})
    return lines


def judged(wrong: dict[int, float], tests: int) -> dict[str, Any]:
    """The victim's test error over splits."""
    return {"test_error_percent": interval(wrong), "n": f"{len(wrong)} splits x {tests} rows"}


def interval(values: dict[int, float]) -> str:
    """The mean over splits with its 95 % interval, times 100; of a single split the value alone."""
    from mithridate.stats import mean_interval

    found = mean_interval([100 * value for value in values.values()])
    return f"{found.mean:.1f}" + (f" [{found.low:.1f}, {found.high:.1f}]" if len(values) > 1 else "")


def costs(those: dict[int, Found], mine: dict[int, Found]) -> dict[str, Any]:
    """Seconds, and how many times ours: medians over splits of ratios within a split, with their range."""
    seconds = [one.seconds for one in those.values()]
    busy = [one.cpu_seconds for one in those.values()]
    ratios = [one.seconds / mine[split].seconds for split, one in those.items() if split in mine]
    shown = {
        "seconds_min": round(min(seconds), 2),
        "seconds_median": round(statistics.median(seconds), 2),
        "cpu_seconds_median": round(statistics.median(busy), 2),
    }
    if not ratios:
        return shown
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return {**shown, "times_ours": f"{middle:.2f} [{low:.2f}, {high:.2f}]"}


if __name__ == "__main__":
    sys.exit(main())
