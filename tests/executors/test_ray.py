"""Jobs on a Ray cluster: the same results where no files are shared, whatever happens to a node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mithridate.errors import MithridateError
from mithridate.executor import Ended
from mithridate.executors.cluster import Cluster
from mithridate.experiment import Job
from mithridate.portable import Portable
from mithridate.watch import Step
from tests.executors.work import Slow, first_fails, jobs
from tests.runs import TINY, carried_out, results, tiny
from tests.runs import begun as begun_run

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own


class Nodes:
    """Two nodes on this machine, of one processor each, beside the one that the driver is on."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self._all = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self._all.add_node(num_cpus=1) for _ in range(2)]
        ray.init(self._all.address, log_to_driver=False, logging_level="error")

    def kill(self, where: str) -> None:
        """Have a node die at once."""
        (node,) = [each for each in self.nodes if each.node_id[:8] in where]
        self.nodes.remove(node)
        self._all.remove_node(node, allow_graceful=False)

    def mend(self) -> None:
        """Have two nodes again."""
        while len(self.nodes) < 2:
            self.nodes.append(self._all.add_node(num_cpus=1))

    def end(self) -> None:
        """Leave nothing behind."""
        ray.shutdown()
        self._all.shutdown()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 makes a busy machine's tests slow
    try:
        found = Nodes()
    except Exception as error:
        pytest.skip(f"no Ray cluster can be started here: {error}")
    yield found
    found.end()


def nobody(job: Job, step: Step) -> None:
    """Hear no reports."""


SLOWER: dict[str, Any] = {
    "victims": [{**TINY["victims"][0], "epochs": 60}],
    "defenses": ["none", "oracle-filter"],  # which begins with the training of the undefended victim
    "controls": {"clean": 1, "noise": 1, "drops": []},
}


NOT_SHARED = ("seconds", "peak_memory", "reused")


def test_gives_the_rows_of_a_local_run_though_a_node_dies_midway(nodes: Nodes, tmp_path: Path) -> None:
    local, there = tmp_path / "local", tmp_path / "ray"
    carried_out(tiny(**SLOWER), local)
    begun: dict[str, list[str]] = {}
    ended: list[Ended] = []

    def started(job: Job, where: str) -> None:
        """Kill the node that a third job begins on: it dies while it has one."""
        begun.setdefault(where, []).append(job.key)
        if len(begun) == 2 and len(begun[where]) == 3 and len(nodes.nodes) == 2:
            nodes.kill(where)

    with begun_run(tiny(**SLOWER), there) as store:
        work = Portable(experiment=tiny(**SLOWER), folder=there, device="cpu")
        for each in Cluster().map(work, tiny(**SLOWER).jobs(), report=nobody, started=started):
            store.add_all([(row.key, row.kind, row.row) for row in each.results])
            ended.append(each)
    assert not [each.error for each in ended if each.error]
    assert len(nodes.nodes) == 1, "none was killed"
    assert len({each.where for each in ended}) == 2
    assert results(there, without=NOT_SHARED) == results(local, without=NOT_SHARED)
    assert tree(there, "poisons", "dropped") == tree(local, "poisons", "dropped")
    assert tree(there, "networks").keys() == tree(local, "networks").keys()


def test_begins_a_job_again_whose_node_dies(nodes: Nodes) -> None:
    nodes.mend()
    notes: list[str] = []
    begun: list[tuple[int, str]] = []

    def started(job: Job, where: str) -> None:
        begun.append((job.trial, where))
        if job.trial == 1 and len(nodes.nodes) == 2:
            nodes.kill(where)

    work = Slow(seconds=3.0)
    found = list(Cluster().map(work, jobs((), ()), report=lambda job, step: notes.append(step.note), started=started))
    ended = {each.job.trial: each for each in found}
    assert [ended[trial].error for trial in (0, 1)] == ["", ""]
    assert ended[1].attempts == 2
    assert len({where for trial, where in begun if trial == 1}) == 2
    assert [each for each in notes if each] == [
        "a node or its worker died amid a job, which is begun again (attempt 2 of 3)"
    ]


def test_goes_on_after_a_failure_and_reports_what_could_not_run(nodes: Nodes) -> None:
    heard: set[str] = set()
    found = list(Cluster().map(first_fails, jobs((), (0,), (1,), ()), report=lambda job, step: heard.add(step.stage)))
    ended = {each.job.trial: each for each in found}
    assert ended[0].error == "job 0 cannot be done"
    assert "ConfigError" in ended[0].trace
    assert ended[1].error == ended[2].error == "not run: the craft job it needs failed"
    assert ended[3].error == ""
    assert len(found) == 4


def test_cancels_what_runs_when_the_run_is_interrupted(nodes: Nodes) -> None:
    def interrupted(job: Job, step: Step) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(Cluster().map(Slow(seconds=60.0), jobs((), ()), report=interrupted))
    assert time.monotonic() - began < 30
    (ended,) = Cluster().map(first_fails, jobs((7,)), report=nobody)
    assert ended.error == "job 0 cannot be done"  # there is room again


def test_says_where_no_node_has_what_a_job_needs(nodes: Nodes) -> None:
    with pytest.raises(MithridateError, match="no node of the Ray cluster has the 1 CPU and 1 GPU that a job needs"):
        list(Cluster(gpus_per_job=1).map(first_fails, jobs(()), report=nobody))


def tree(folder: Path, *parts: str) -> dict[str, bytes]:
    """The files in parts of a run folder."""
    paths = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
