"""The runs of a recipe: their commands, their files, the subsets they are scored on."""

from __future__ import annotations

import os

import pytest

import test as scoring_script
from datasets.folder import scan
from datasets.subsets import subset
from reproduction.recipes import Cell, load
from reproduction.runs import Run, finished
from tests.pictures import write_folder
from tests.scripts import ROOT

RECIPE = """
threads: 1
options: {model_arch: resnet8, image_size: 32, pretrained: none, max_iters: 9}
datasets: {pets: {folder: pets, options: {keep_aspect: }}}
protocols: {half: {options: {sample_rate: 50}}}
methods: {l2: {options: {regularizer: l2}}, more: {options: {regularizer: l2, sample_rate: 100}}}
scores: {train: {images: train, il: true}, test: {images: test}}
measures: {acc: {from: test.acc}}
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "grid.yaml").write_text(RECIPE)
    write_folder(tmp_path / "data" / "pets" / "train", count=5)
    write_folder(tmp_path / "data" / "pets" / "test", count=3, seed=1)
    return load(tmp_path / "grid.yaml")


def run(recipe, tmp_path, method="l2", seed=4):
    return Run(recipe, Cell("pets", "half", method), seed, str(tmp_path / "data"), tmp_path / "out")


def test_finetune_writes_where_the_run_looks(recipe, tmp_path):
    made = run(recipe, tmp_path)
    options = made.parsed()
    assert made.file(".json") == tmp_path / "out" / "runs" / made.name / f"{options.run}.json"
    assert options.save == str(made.save)
    assert (options.seed, options.sample_rate, options.keep_aspect, options.resume) == (4, 50, True, "auto")
    assert options.train_dir == str(tmp_path / "data" / "pets" / "train")
    assert options.eval_dir == str(tmp_path / "data" / "pets" / "test")
    assert made.name.startswith("pets_half_l2_")
    assert made.name.endswith("_s4")


def test_no_weights_are_left_of_a_run_that_drops_them(recipe, tmp_path):
    made = run(recipe, tmp_path)
    made.save.mkdir(parents=True)
    for ending in ("_Best.pdparams", "_Last.pdparams", "_Probe.pdparams", ".json"):
        made.file(ending).write_text("{}")
    made.drop_checkpoints()
    assert os.listdir(made.save) == [made.file(".json").name]


@pytest.mark.parametrize(("options", "name"), [("preset: few", "fe"), ("lr: 0.1", "smile"), ("preset: paper", "smile")])
def test_a_method_may_be_left_to_the_preset_or_the_default(options, name, tmp_path):
    weights = "model_arch: resnet18, image_size: 32, pretrained: imagenet"
    text = RECIPE.replace("model_arch: resnet8, image_size: 32, pretrained: none", weights)
    text = text.replace("regularizer: l2}", f"{options}}}")
    (tmp_path / "grid.yaml").write_text(text)
    made = run(load(tmp_path / "grid.yaml"), tmp_path)
    assert (made.method, made.state()) == (name, "new")
    assert made.file(".json").name == f"{made.parsed().run}.json" == f"{made.name}_{name}.json"


def test_test_scores_what_the_run_left(recipe, tmp_path):
    made = run(recipe, tmp_path)
    (_, trained), (train, first), (test, second) = made.commands()
    assert trained == made.file(".json")
    assert first != second
    options = scoring_script.parser().parse_args(train[1:])
    assert (options.il, options.test_dir, str(options.json)) == (True, str(made.subset()), str(first))
    assert options.ckpts == [str(made.file("_Last.pdparams"))]
    options = scoring_script.parser().parse_args(test[1:])
    assert (options.il, options.test_dir, options.seed) == (False, str(tmp_path / "data" / "pets" / "test"), 4)


def test_another_score_is_another_file(recipe, tmp_path):
    before = run(recipe, tmp_path)
    (tmp_path / "grid.yaml").write_text(RECIPE.replace("test: {images: test}", "test: {images: test, il: true}"))
    after = run(load(tmp_path / "grid.yaml"), tmp_path)
    same = [old == new for (_, old), (_, new) in zip(before.commands(), after.commands())]
    assert same == [True, True, False]  # what was trained is not trained again


def test_a_run_is_new_interrupted_or_finished(recipe, tmp_path):
    made = run(recipe, tmp_path)
    assert made.state() == "new"
    made.save.mkdir(parents=True)
    made.file("_Last.pdparams").write_text("")
    assert made.state() == "interrupted"
    for _, product in made.commands():
        assert made.state() == "interrupted"
        product.write_text("{}")
    assert made.state() == "finished"
    assert [each.name for each in finished(recipe, tmp_path / "out")] == [made.name]
    made.drop_checkpoints()
    assert not made.file("_Last.pdparams").exists()
    assert made.state() == "finished"


def test_finished_runs_are_found_whatever_their_seed(recipe, tmp_path):
    for seed in (11, 2):
        made = run(recipe, tmp_path, "more", seed)
        made.save.mkdir(parents=True)
        for _, product in made.commands():
            product.write_text("{}")
    (tmp_path / "out" / "runs" / f"{made.name}x").mkdir()
    assert [each.seed for each in finished(recipe, tmp_path / "out")] == [2, 11]


def test_the_subset_is_that_of_the_protocol(recipe, tmp_path):
    folder = scan(tmp_path / "data" / "pets" / "train")
    chosen, _ = subset(folder, 4, rate=50)
    for method in ("l2", "more"):
        made = run(recipe, tmp_path, method)
        made.link_subset()
        found = scan(made.subset())
        assert found.class_names == folder.class_names
        assert found.paths == folder.select(chosen).paths
        for path in found.paths:
            assert os.path.samefile(made.subset() / path, folder.root / path)
    assert os.listdir(tmp_path / "out" / "subsets") == [made.subset().name]
    assert run(recipe, tmp_path, seed=5).subset() != made.subset()


def test_the_embedded_task_has_its_own_folders(tmp_path):
    demo = load(ROOT / "recipes" / "demo.yaml")
    made = Run(demo, Cell("greek", "N3", "smile"), 0, "data", tmp_path)
    training, scoring = (command for command, _ in made.commands())
    assert made.folder("val") != made.folder("test")
    assert made.folder("val") in training
    assert made.folder("test") not in training
    assert made.folder("test") in scoring
    assert all(str(tmp_path) in place for place in (made.cache_dir, made.folder("train"), made.settings["pretrained"]))
