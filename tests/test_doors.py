"""What is open to additions: a toy metric and a toy network go through a whole run.

The doors for methods, augmentations and data sets have tests of their own: test_adding_a_method.py,
datasets/test_augment.py, datasets/test_prepare.py.
"""

import csv
import json

import pytest
from paddle import nn
from visualdl import LogReader

import finetune
import models
import test as scoring
from evaluation.metrics import METRICS, Metric
from models.network import Architecture, Network
from models.outputs import Outputs
from tests.pictures import write_folder
from tests.scripts import tiny


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, no_curves):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "dataset" / "train")
    write_folder(tmp_path / "dataset" / "test", count=2, seed=1)
    return tmp_path


def test_a_new_metric_is_in_log_table_summary_and_curves(work, monkeypatch, capsys):
    metric = Metric(lambda logits, labels: float(logits.max(axis=1).mean()), "highest logit", "{value:.3f}")
    monkeypatch.setitem(METRICS, "highest", metric)
    summary = finetune.main(tiny("--regularizer", "l2", "--pretrained", "none", "--name", "pets"))
    value = summary.last["highest"]
    assert json.loads((work / "output" / "pets_l2.json").read_text())["last"] == summary.last
    assert f"  highest logit {value:.3f}" in capsys.readouterr().out
    with open(work / "output" / "pets_l2.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[-1]][-1] == "val_highest"
    assert float(rows[-1]["val_highest"]) == value
    reader = LogReader(file_path=str(work / "visual_log" / "pets_l2" / "vdlrecords.run.log"))
    assert [record.id for record in reader.get_data("scalar", "val/highest")] == [3, 6]


class Toy(nn.Layer, Network):
    """A convolution and a head."""

    head_name = "fc"

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3, stride=4)
        self.fc = nn.Linear(4, num_classes)

    def forward(self, images):
        maps = nn.functional.relu(self.conv(images))
        features = maps.mean(axis=[2, 3])
        return Outputs(self.fc(features), features, (maps,))


def test_a_new_network_is_a_file_and_an_entry(work, monkeypatch):
    monkeypatch.setitem(models.ARCHITECTURES, "toy", Architecture(Toy, {}))
    monkeypatch.setitem(models.HEAD_NAMES, "toy", Toy.head_name)
    first = finetune.main(tiny("--model_arch", "toy", "--regularizer", "l2", "--pretrained", "none", "--name", "a"))
    assert first.options["model_arch"] == "toy"
    checkpoint = "output/a_l2_Last.pdparams"
    smile = tiny("--model_arch", "toy", "--pretrained", checkpoint, "--name", "b", "--clean_tail", 2)
    assert finetune.main(smile).source["classes"] == 3
    (scores,) = scoring.main(["--ckpts", "output/b_smile_Last.pdparams", "--test_dir", "dataset/test", "--gpu", "-1"])
    assert scores["count"] == 6
