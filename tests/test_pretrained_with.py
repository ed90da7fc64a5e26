"""What a network was trained with goes with its weights: from one checkpoint to the next, to every script."""

from __future__ import annotations

import paddle

from checkpoints import checkpoint
from datasets.preprocess import Preprocess
from models import build
from tests.pictures import write_folder
from tests.scripts import call

FLAGS = "--model_arch resnet8 --image_size 32 --batch_size 4 --max_iters 1 --gpu -1 --regularizer l2 --name next"


def test_a_checkpoint_hands_its_normalisation_on(tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / "dataset" / split, count=2)
    given = Preprocess(40, 48, True, (0.5, 0.4, 0.3), (0.5, 0.6, 0.7), "bicubic")
    content = {"model": build("resnet8", 3).state_dict(), "arch": "resnet8", "preprocess": given.to_dict()}
    paddle.save(content, str(tmp_path / "source.pdparams"))
    done = call("finetune.py", *FLAGS.split(), "--pretrained", "source.pdparams", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = checkpoint.read(tmp_path / "output" / "next_l2_Last.pdparams")["preprocess"]
    expected = Preprocess(32, round(32 * 256 / 224), False, given.mean, given.std, "bicubic", "exif")
    assert Preprocess(**written) == expected
    damaged = tmp_path / "damaged.pdparams"
    paddle.save({**content, "preprocess": {**given.to_dict(), "std": (0.5, 0.5, 0.0)}}, str(damaged))
    failed = call("finetune.py", *FLAGS.split(), "--overwrite", "--pretrained", "damaged.pdparams", cwd=tmp_path)
    assert failed.returncode == 4
    assert "the entry preprocess.std is" in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
