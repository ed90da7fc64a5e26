"""The simulation of many GPUs, and what handing out runs costs at its smallest."""

from __future__ import annotations

import json

import pytest

from benchmarks import executors, fleet
from models import build
from models.parameters import backbone_parameters
from reproduction.recipes import Cell, load
from reproduction.runs import Run
from reproduction.session import Share
from tests.scripts import ROOT
from utils.errors import UsageError


def of(name, *cell, seed=0):
    recipe = load(ROOT / "recipes" / f"{name}.yaml")
    return Run(recipe, Cell(*cell), seed, "dataset", ROOT)


def test_each_free_gpu_takes_the_next_run():
    assert fleet.makespan([3, 1, 1, 1, 4], 1) == 10
    assert fleet.makespan([3, 1, 1, 1, 4], 2) == 7  # 3 | 1 1 1, then 4 on either
    assert fleet.makespan([3, 1, 1, 1, 4], 99) == 4


def test_a_run_is_its_updates_its_evaluations_and_its_starts():
    run = of("table2", "cub", "C25_N400", "smile")  # 3 evaluations of a quarter of 5794 images
    cost = fleet.cost(run, {"resnet50": 0.2}, 10.0)
    assert cost.seconds == pytest.approx(9000 * 0.2 * 1.3 + 3 * 5794 / 4 * 0.29 * 0.2 / 48 + 10)
    assert (cost.kept, cost.written) == (2 * 3 * 94, (18 + 3) * 3 * 94)
    plain = fleet.cost(of("table4", "cub", "CAll_N30pct", "l2"), {"resnet50": 0.2}, 10.0)
    images = 3 * 5794 + 6 * 5994 * 0.3 + 6 * 5794
    assert plain.seconds == pytest.approx(9000 * 0.2 + images * 0.29 * 0.2 / 48 + 30)
    fifty = fleet.cost(of("figure1", "cars", "C50", "l2"), {"resnet50": 0.2}, 0.0)
    assert fifty.seconds == pytest.approx(9000 * 0.2 + 3 * 8041 * 50 / 196 * 0.29 * 0.2 / 48)


def test_the_weights_are_as_large_as_it_takes_them_to_be():
    for arch, megabytes in fleet.MEGABYTES.items():
        counted = sum(parameter.size for parameter in backbone_parameters(build(arch, 2)).values()) * 4 / 1e6
        assert counted == pytest.approx(megabytes, rel=0.02), arch


def test_the_tables_are_printed_with_their_assumptions(capsys, tmp_path):
    recipes = [str(ROOT / "recipes" / f"{name}.yaml") for name in ("table2", "table3")]
    fleet.main([*recipes, "--gpus", "1", "1000", "--seeds", "5", "--json", str(tmp_path / "out.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("assumed, not measured: an update of l2 takes resnet50 0.15 s, efficientnet_b4 0.2 s")
    assert [line.split()[:3] for line in lines[2:]] == [
        ["table2", "540", "1"], ["table2", "540", "1000"], ["table3", "180", "1"], ["table3", "180", "1000"],
    ]  # fmt: skip
    one, many = json.loads((tmp_path / "out.json").read_text())["recipes"]["table2"]
    assert float(one["hours"]) == pytest.approx(float(one["GPU hours"]), abs=0.1)
    assert one["idle %"] == "0.0"
    assert many["hours"] == many["at best"]


@pytest.mark.parametrize("flags", [["--step", "resnet50"], ["--step", "resnet50=0"], ["--step", "resnet18=0.1"]])
def test_what_it_has_no_assumption_for_is_refused(flags):
    with pytest.raises(UsageError, match=r"resnet50=0\.15|networks: efficientnet_b4|no assumptions"):
        fleet.main([str(ROOT / "recipes" / "table2.yaml"), *flags])
    with pytest.raises(UsageError, match="no assumptions for it; .*data sets: cub, cars"):
        fleet.main([str(ROOT / "recipes" / "bakeoff.yaml")])


def test_a_recipe_that_leaves_out_a_number_of_updates_is_named(tmp_path):
    text = (ROOT / "recipes" / "table3.yaml").read_text().replace("save_frequency", "print_frequency")
    (tmp_path / "own.yaml").write_text(text.partition("\npublished: {")[0])
    with pytest.raises(UsageError, match=r"own\.yaml: .*: expected are options with save_frequency$"):
        fleet.main([str(tmp_path / "own.yaml")])


def test_stub_runs_are_handed_out_and_counted(capsys):
    executors.main(["--runs", "3", "--processes", "2"])
    header, line = capsys.readouterr().out.splitlines()
    assert line.startswith("pool, 2 at a time     3 ")
    assert header.split()[-2:] == ["MB", "after"]


def test_what_a_run_asks_for_is_counted_on_each_machine():
    machine = {"CPU": 8.0, "GPU": 2.0}
    assert [Share(gpus, cpus).fits(machine) for gpus, cpus in ((1, 1), (0.5, 1), (0.5, 4), (0, 3), (1, 9))] == [
        2, 4, 2, 2, 0,
    ]  # fmt: skip
    assert str(Share(0.5, 2)) == "0.5 GPUs and 2 CPUs"
