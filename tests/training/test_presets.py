"""`--preset`: what it sets, and what holds beside it."""

import pytest

import regularizers
from tests.pictures import write_folder
from training import presets
from training.options import FLAGS, Options
from training.parsing import parse
from training.settings import text
from utils.errors import UsageError

FEW = presets.PRESETS["few"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_folder(tmp_path / "dataset" / "train")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(options):
    """Return every option and hyper-parameter but the preset's name."""
    return {name: value for name, value in options.to_dict().items() if name != "preset"}


def test_the_papers_values_hold_without_it():
    assert values(parse([])) == values(parse(["--preset", "paper"]))
    assert presets.PRESETS["paper"] == {}


def test_it_sets_what_it_names_and_nothing_else():
    few, paper = parse(["--preset", "few"]), parse(["--max_iters", str(FEW["max_iters"])])
    assert all({**few.to_dict(), **few.method}[name] == value for name, value in FEW.items())
    changed = {name for name in values(few) if values(few)[name] != values(paper)[name]}
    assert changed - {"method"} <= set(FEW) | {"run"}


def test_every_value_is_an_option_or_a_hyper_parameter_of_its_method():
    assert all(set(each) <= set(FLAGS) | set(regularizers.arguments(presets.regularizer(each))) for each in [FEW])


@pytest.mark.parametrize("method", regularizers.REGULARIZERS)
def test_any_method_can_be_asked_for(method):
    arch = "resnet18"  # of which every method accepts the blocks
    options = parse(["--preset", "few", "--regularizer", method, "--model_arch", arch, "--pretrained", "imagenet"])
    assert (options.regularizer, options.lr, options.head_init) == (method, FEW["lr"], FEW["head_init"])
    assert options == Options.from_flags({"preset": "few", "regularizer": method, "model_arch": arch})


def test_what_is_given_holds():
    options = parse(["--lr", "0.5", "--preset", "few", "--head_init", "torch", "--batch_size", "7"])
    assert (options.lr, options.head_init, options.batch_size) == (0.5, "torch", 7)
    assert parse(["--preset", "few", "--epochs", "2"]).max_iters is None
    assert parse(["--preset", "few", "--time", "2m"]).max_iters is None
    own = parse(["--preset", "few", "--bn_momentum", "0.9"])
    assert (own.freeze_bn, own.bn_momentum) == (False, 0.9)
    scratch = parse(["--preset", "few", "--pretrained", "none", "--regularizer", "l2"])
    assert (scratch.freeze_bn, scratch.probe, scratch.head_init) == (False, False, parse([]).head_init)
    transformer = parse(["--preset", "few", "--model_arch", "vit_small_patch16_224"])  # no batch normalisation
    assert not transformer.freeze_bn


def test_there_is_no_other():
    for read in (Options.of, Options.from_flags):
        with pytest.raises(UsageError, match="--preset.*fwe.*paper, few"):
            read({"preset": "fwe"})


def test_a_file_of_settings_repeats_it(folder):
    options = parse(["--preset", "few", "--max_iters", "40"])
    (folder / "run.yaml").write_text(text(options))
    assert values(parse(["--config", "run.yaml"])) == {**values(options), "probe": options.probe}
    (folder / "few.yaml").write_text("preset: few\nlr: 0.25\n")
    assert parse(["--config", "few.yaml"]).batch_size == FEW["batch_size"]
    assert parse(["--config", "few.yaml"]).lr == 0.25
    (folder / "off.yaml").write_text("preset: few\nprobe: false\nfreeze-bn: no\n")
    off = parse(["--config", "off.yaml"])
    assert (off.probe, off.freeze_bn, off.head_init) == (False, False, FEW["head_init"])
    assert parse(["--config", "off.yaml", "--freeze_bn"]).freeze_bn


def test_the_embedded_task_has_it_too(folder):
    (folder / "dataset").rename(folder / "elsewhere")
    options = parse(["--preset", "few"])
    assert options.embedded
    assert (options.model_arch, options.batch_size, options.lr) == ("resnet8", FEW["batch_size"], FEW["lr"])
