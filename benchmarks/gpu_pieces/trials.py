"""(f) The published protocols, as many trials as fit, by the project's own engine in a run folder that goes on."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import Place, TimeUp
from gpu_pieces.results import measured, row
from gpu_pieces.victims import fast_learner, fast_settings
from mithridate import campaign, config, runtime
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from mithridate.job import Job
from mithridate.settings import plain
from mithridate.store import Store
from mithridate.watch import Step

HOUR = 3600.0
"""Goal: seconds for the 100 set-ups of the benchmark with fast victims."""
PUBLISHED = {
    "witches-brew": "90.00 % (standard error 3.87), 10 trials x 8 victims, Geiping et al. 2021, table 2, as recalled",
    "benchmark-scratch": "45 % (leaderboard); 44 % and 47 % (independent), 100 set-ups, ResNet-18",
    "benchmark-scratch-fast": "none: victims are not those of the benchmark",
}
_TINY: dict[str, Any] = {
    "data": {"name": "cifar10", "train_rows": 100, "test_rows": 20},
    "threat": {"budget": "2 %", "perturbation": {"name": "linf", "radius": "8/255"}},
    "runs": 1,
    "controls": {"clean": 1, "noise": 1},
}


def settings(place: Place, name: str) -> dict[str, Any]:
    """The preset with what is changed here: fast settings of training, one victim, trials; all of it is recorded."""
    preset = name.removesuffix("-fast")
    found = config.read_yaml(config.load_preset(preset), where=preset)
    found["victims"] = found["victims"][:1]
    found["attacks"] = [{**each, "precision": "tf32"} for each in found["attacks"]] if place.cuda else found["attacks"]
    found["published"] = [each for each in found.get("published", []) if each["victim"] == 0]
    if name.endswith("-fast"):
        _fast(found, place)
    for each in [*found["victims"], *found.get("surrogates", [])]:
        each |= place.fast()
    if place.trials:
        found["trials"] = place.trials
    return _tiny(found, place) if place.tiny else found


def _fast(found: dict[str, Any], place: Place) -> None:
    """Victims of the ``fast`` recipe, which are not the protocol's."""
    found["name"], found["published"] = "benchmark-scratch-fast", []
    found["victims"] = [fast_settings(place)]
    found["notes"] = ["Victims of the recipe fast on the benchmark's set-ups: not its protocol.", *found["notes"]]


def _tiny(found: dict[str, Any], place: Place) -> dict[str, Any]:
    """The same shape on a few rows: no protocol, small networks, few epochs and steps."""
    for gone in ("protocol", "setups", "published"):
        found.pop(gone, None)
    small = {"model": plain(place.size.networks["convnet"]), "epochs": place.size.epochs}
    for each in [*found["victims"], *found.get("surrogates", [])]:
        each |= small if each["recipe"] != "fast" else {}
    found["attacks"] = [{**each, "steps": place.size.steps, "restarts": 1} for each in found["attacks"]]
    return {**found, **_TINY, "trials": place.trials or 1}


def units(place: Place, name: str) -> list[Unit]:
    """The whole run: it goes on by itself."""
    return [Unit(name=name, run=lambda: _ran(place, name))]


def _ran(place: Place, name: str) -> Found:
    """Do what is left of a run until the time is up."""
    if name.endswith("-fast"):
        fast_learner(place)
    asked = settings(place, name)
    experiment = config.parse(Experiment, asked)
    campaign.check(experiment)
    folder = place.folder / "runs" / name
    environment = {**runtime.describe(place.device), "auto precision": "bf16" if place.cuda else "auto"}

    def report(job: Job, step: Step) -> None:
        place.check()

    command = f"python benchmarks/gpu.py --piece {name}"
    failures = []
    with campaign.begin(experiment, folder, command=command, environment=environment) as store:
        try:
            for ended in campaign.run(experiment, store, executor=Local(), device=place.device, report=report):
                failures += [ended.error] if ended.error else []
                place.check()
        except TimeUp:
            pass
        left = campaign.plan(store).left
    found = _found(folder, name, asked, failures)
    if failures:
        return {**found, "failed": f"{len(failures)} jobs failed; the first: {failures[0]}"}
    if left:
        raise TimeUp(found)
    return found


def _found(folder: Path, name: str, asked: Mapping[str, Any], failures: list[str]) -> Found:
    """What the run says so far."""
    campaign.finish(folder)
    with Store(folder) as store:
        meta, rows = store.meta(), store.rows()
        planned, left = store.queue.count()
    kinds = dict.fromkeys(each["kind"] for each in rows)
    seconds = {kind: [each["seconds"] for each in rows if each["kind"] == kind] for kind in kinds}
    return {
        "jobs": {"planned": planned, "left": left},
        "trials": asked["trials"],
        "seconds": {kind: [round(each, 2) for each in values] for kind, values in seconds.items()},
        "success": json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"],
        "published": PUBLISHED[name],
        "notes": meta.get("notes"),
        "settings": dict(asked),
        "failures": failures,
    }


def rows(found: Mapping[str, Found]) -> list[Row]:
    """Success with its interval beside the controls, and what 100 set-ups would take."""
    lines: list[Row] = []
    for name, each in measured(found).items():
        lines += [_success(name, line, each["published"]) for line in each["success"]]
        a_trial = {kind: statistics.median(values) for kind, values in each["seconds"].items() if kind in _A_TRIAL}
        goal = HOUR if name == "benchmark-scratch-fast" else None
        whole = [100 * sum(a_trial.values())] if len(a_trial) == len(_A_TRIAL) else []
        said = ", ".join(f"{kind} {value:.3g} s" for kind, value in a_trial.items())
        lines.append(
            row(f"{name}: 100 trials of one victim each, reckoned from medians", whole, "s", at_most=goal, note=said)
        )
    return lines


_A_TRIAL = ("craft", "victim")


def _success(name: str, line: Mapping[str, Any], published: str) -> Row:
    success = line["success"]
    known = bool(success) and success.get("mean") is not None
    base, noise = line["base_rate"], line["noise_control"]
    controls = ", ".join(
        f"{what} {'not run' if rate is None else f'{rate:.1%}'}" for what, rate in (("clean", base), ("noise", noise))
    )
    spread = (success["low"], success["high"]) if known else ()
    note = f"95 % interval over {line['trials']} trials and {line['victims']} victims; controls: {controls}"
    told = row(
        f"{name}: success of {line['attack']} on {line['victim']}",
        [success["mean"]] if known else [],
        "share",
        spread=spread,
        note=f"{note}; published: {published}",
    )
    return {**told, "n": line["victims"]}


PIECES = tuple(
    Piece(name=name, about=about, units=lambda place, name=name: units(place, name), rows=rows)
    for name, about in (
        ("benchmark-scratch-fast", "The benchmark's set-ups (eps 8), victims of the recipe fast: not its protocol."),
        ("witches-brew", "Witches' Brew, table 2: eps 16, the paper's victims."),
        ("benchmark-scratch", "The benchmark from scratch (eps 8), its first victim, ResNet-18."),
    )
)
