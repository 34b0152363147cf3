"""Run the published feature-space protocols on a GPU, all trials of an attack crafted at once, in pieces of minutes.

    python benchmarks/gpu_polytopes.py --data DATA --out OUT [--minutes 9] [--protocol benchmark-transfer]
                                       [--pretraining-epochs N] [--cifar-parts FOLDER] [--from PREVIOUS_OUT]
                                       [-- --set a.b=c ...]

Protocols: ``benchmark-transfer`` and ``convex-polytope-2019``. Every call goes on where the last one stopped: networks
and run lie in ``runs/``; pretraining is noted every minute. On a machine that keeps nothing, ``--from`` brings the run
(store and poison sets) and the networks that fitted into 15 MiB pieces back.

* ``--data``: a folder laid out as MITHRIDATE_DATA. With ``--cifar-parts`` CIFAR-10's training Parquet is first put
  together there from ``FOLDER/train.part-*`` (made with  split -b 48M).
* Networks of ``benchmark-transfer`` are pretrained on CIFAR-100; where that is not in the folder, on five classes of
  CIFAR-10 (airplane, automobile, bird, cat, deer), half of those that are then transferred to. The result says which.
* ``--pretraining-epochs`` cuts the pretraining short (its learning rate falls at the same fractions). The result says
  so, and names all other places where the run leaves the protocol.

``result.json`` holds success with Wilson intervals beside the published numbers, networks with their accuracy, times,
hardware and versions. Pretraining runs in bf16, channels-last, compiled; crafting and judging in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PIECE = 15 * 2**20
HALF = ("airplane", "automobile", "bird", "cat", "deer")


class TimeUp(Exception):  # noqa: N818 (no error)
    """The minutes of this call are spent."""


def main() -> int:
    """Restore, pretrain, craft, judge until the time is up, pack."""
    asked = arguments()
    deadline = time.monotonic() + asked.minutes * 60 - 40
    os.environ["MITHRIDATE_DATA"] = str(asked.data.resolve())
    os.environ["MITHRIDATE_CACHE"] = str(Path("runs/cache").resolve())
    if asked.cifar_parts:
        joined(asked.cifar_parts, asked.data / "cifar10" / "train-00000-of-00001.parquet")
    if asked.previous:
        restored(asked.previous, Path("runs"))
    run, done = Path("runs") / f"gpu-{asked.protocol}", False
    try:
        done = carried_out(asked, run, deadline)
    except TimeUp:
        print("the time is up; call again to go on")
    asked.out.mkdir(parents=True, exist_ok=True)
    packed(run, asked.out)
    found = result(asked, run, done)
    (asked.out / "result.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--protocol", default="benchmark-transfer")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pretraining-epochs", type=int, default=0)
    parser.add_argument("--together", type=int, default=0, help="trials crafted at once; 0: all")
    parser.add_argument("--cifar-parts", type=Path)
    parser.add_argument("--from", dest="previous", type=Path)
    parser.add_argument("changes", nargs="*", help="--set a.b=c, after --")
    return parser.parse_args()


def carried_out(asked: Any, run: Path, deadline: float) -> bool:
    """Do what is left; whether all is done. Raises :class:`TimeUp`."""
    import torch

    from mithridate import campaign, runtime
    from mithridate.executors.local import Local

    device = torch.device(asked.device)
    experiment = experiment_of(asked)
    campaign.check(experiment)
    environment = {**runtime.describe(device), "crafting": "all trials of an attack at once"}
    with campaign.begin(experiment, run, command=" ".join(sys.argv), environment=environment) as store:
        pretrained(experiment, store, device, deadline)
        for attack in range(len(experiment.attacks)):
            crafted(experiment, store, attack, device, deadline, together=asked.together)
        for ended in campaign.run(experiment, store, executor=Local(), device=device, report=lambda *_: None):
            print(ended.job.kind, ended.job.trial, ended.error or "done", flush=True)
            if time.monotonic() > deadline:
                raise TimeUp
        left = campaign.plan(store).left
    campaign.finish(run)
    return not left


def experiment_of(asked: Any) -> Any:
    """The protocol, with what was asked for changed."""
    from mithridate import config
    from mithridate.experiment import Experiment

    settings = config.read_yaml(config.load_preset(asked.protocol), where=asked.protocol)
    half = not (asked.data / "cifar100").is_dir()
    for learner in [*settings["victims"], *settings["surrogates"]]:
        weights = learner["start"]["weights"]
        if half and weights["data"]["name"] == "cifar100":
            weights["data"] = {**weights["data"], "name": "cifar10", "classes": list(HALF)}
        weights["learner"] |= {"precision": "bf16", "channels_last": True, "compile": asked.device == "cuda"}
        if asked.pretraining_epochs:
            shortened(weights["learner"], asked.pretraining_epochs)
    pairs = [each for each in asked.changes if each != "--set"]
    return config.parse(Experiment, config.override(settings, pairs))


def shortened(learner: dict[str, Any], epochs: int) -> None:
    """The recipe of a pretraining in fewer epochs, its learning rate falling at the same fractions."""
    from mithridate.learners.recipes import RECIPES

    published = RECIPES[learner["recipe"]]
    learner["drops"] = sorted({max(1, round(each * epochs / published["epochs"])) for each in published["drops"]})
    learner["epochs"] = epochs


def pretrained(experiment: Any, store: Any, device: Any, deadline: float) -> None:
    """Pretrain what is not there yet; where it stands is noted every minute."""
    from mithridate.work import perform

    def watch(step: Any) -> None:
        print(step.stage, step.done, step.total, dict(step.values), flush=True)
        if time.monotonic() > deadline and step.done < step.total:
            raise TimeUp

    there = store.keys()
    for job in experiment.jobs():
        if job.kind == "pretraining" and job.key not in there:
            for each in perform(experiment, job, folder=store.folder, device=device, watch=watch):
                store.add(each.key, each.kind, each.row)


def crafted(experiment: Any, store: Any, attack: int, device: Any, deadline: float, *, together: int) -> None:
    """Craft the poison of all trials that is not there yet, many trials at once."""
    from mithridate.attack import released

    jobs = [job for job in experiment.jobs() if job.kind == "craft" and job.attack == attack]
    there = store.keys()
    jobs = [job for job in jobs if job.key not in there]
    for some in groups(experiment, jobs, together or len(jobs) or 1):
        if time.monotonic() > deadline:
            raise TimeUp
        started = time.perf_counter()
        trials, data, goals = zip(*(place(experiment, job, device) for job in some), strict=True)
        kind, threat = experiment.attacks[attack], trials[0].threat
        networks, crew = surrogates(experiment, kind, data[0], store.folder)
        rows = [
            part.train.rows(trial.threat.pick(part.train, goal.known, trial.seed.child("craft").child("pick")))
            for trial, part, goal in zip(trials, data, goals, strict=True)
        ]
        found = kind.craft_together(
            rows,
            [goal.known.to(device) for goal in goals],
            threat=threat,
            networks=networks,
            seed=trials[0].seed.child("craft"),
        )
        seconds = (time.perf_counter() - started) / len(some)
        print(kind.name, len(some), "trials", round(seconds, 2), "s each", flush=True)
        for job, trial, part, goal, raw in zip(some, trials, data, goals, found, strict=True):
            poison = released(raw, part.train, trial.threat)
            trial.threat.check(part.train, poison)
            row = keep(experiment, job, poison, goal, crew, part, store.folder, seconds)
            store.add(row.key, row.kind, row.row)


def groups(experiment: Any, jobs: list[Any], size: int) -> Iterator[list[Any]]:
    """Jobs whose trials have equally many base rows, at most ``size`` at once."""
    by_count: dict[int, list[Any]] = {}
    for job in jobs:
        by_count.setdefault(len(experiment.trial(job).threat.base_ids), []).append(job)
    for some in by_count.values():
        for start in range(0, len(some), size):
            yield some[start : start + size]


def place(experiment: Any, job: Any, device: Any) -> tuple[Any, Any, Any]:
    """The trial of a job, its data on the device, and its goal."""
    from mithridate.source import Split
    from mithridate.work import data_of

    trial, data = experiment.trial(job), data_of(experiment, job)
    return trial, Split(train=data.train.to(device), test=data.test), trial.goal(data)


def surrogates(experiment: Any, kind: Any, data: Any, folder: Path) -> tuple[list[Any], list[Any]]:
    """The networks that an attack crafts with, and their learners; with transfer, only their heads differ by trial."""
    from mithridate.feature_attack import trained_networks
    from mithridate.seeding import Seed
    from mithridate.work import cached_crew

    crew = cached_crew(experiment, folder)
    return trained_networks(kind.crew(crew), data.train, seed=Seed(experiment.seed)), crew


def keep(experiment: Any, job: Any, poison: Any, goal: Any, crew: Any, data: Any, folder: Path, seconds: float) -> Any:
    """The row of a craft job, its poison set written."""
    from mithridate.work import keep as keep_poison

    return keep_poison(experiment, job, poison, goal=goal, crew=crew, data=data, folder=folder, seconds=seconds)


def result(asked: Any, run: Path, done: bool) -> dict[str, Any]:
    """What is known so far."""
    from mithridate import campaign
    from mithridate.store import Store

    if not (run / "store.sqlite").is_file():
        return {"protocol": asked.protocol, "done": False, "rows": []}
    campaign.finish(run)
    with Store(run) as store:
        meta, networks = store.meta(), store.rows("pretraining")
    return {
        "protocol": asked.protocol,
        "done": done,
        "notes": meta.get("notes"),
        "environment": meta.get("environment"),
        "networks": [{name: row[name] for name in ("learner", "classes", "rows", "accuracy")} for row in networks],
        "published": meta.get("published"),
        "rows": json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"],
    }


def joined(parts: Path, path: Path) -> None:
    """Put a file together from its parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as whole:
        for part in sorted(parts.glob("train.part-*")):
            whole.write(part.read_bytes())


def packed(run: Path, out: Path) -> None:
    """The run, without networks that would not fit, and the networks that do, as a tar in pieces of 15 MiB."""
    if not run.is_dir():
        return
    whole = out / "run.tar"
    with tarfile.open(whole, "w") as tar:
        for path in sorted(run.rglob("*")):
            if path.is_file() and not {"networks", "memory"} & set(path.relative_to(run).parts):
                tar.add(path, arcname=f"{run.name}/{path.relative_to(run)}")
    content = whole.read_bytes()
    whole.unlink()
    for k, start in enumerate(range(0, len(content), PIECE)):
        (out / f"run.tar.{k:03d}").write_bytes(content[start : start + PIECE])
    for path in Path("runs/cache/networks").glob("*.safetensors"):
        if path.stat().st_size <= PIECE:
            shutil.copyfile(path, out / path.name)


def restored(previous: Path, runs: Path) -> None:
    """Unpack what an earlier call brought back."""
    runs.mkdir(exist_ok=True)
    whole = runs / "run.tar"
    whole.write_bytes(b"".join(path.read_bytes() for path in sorted(previous.glob("run.tar.*"))))
    with tarfile.open(whole) as tar:
        tar.extractall(runs, filter="data")
    whole.unlink()
    networks = runs / "cache" / "networks"
    networks.mkdir(parents=True, exist_ok=True)
    for path in previous.glob("*.safetensors"):
        shutil.copyfile(path, networks / path.name)


if __name__ == "__main__":
    sys.exit(main())
