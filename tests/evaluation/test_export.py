import numpy as np

from checkpoints.classifier import Classifier
from datasets.preprocess import Preprocess
from evaluation.export import comparison_images, description
from tests.pictures import write_folder
from tests.toy_checkpoints import write_checkpoint


def test_the_aspect_is_kept_where_the_training_kept_it(tmp_path):
    path = write_checkpoint(tmp_path / "a.pdparams", ["cat", "dog"], resize=40, keep_aspect=True)
    resize = description(Classifier.load(path))["PreProcess"]["transform_ops"][0]["ResizeImage"]
    assert resize == {"resize_short": 40, "interpolation": "bilinear", "backend": "pil"}


def test_generated_images_differ_and_given_ones_are_spread_evenly(tmp_path):
    generated = comparison_images(Preprocess(32, 37), None, 20)
    assert generated.shape == (20, 3, 32, 32)
    assert len(np.unique(generated.reshape(20, -1), axis=0)) == 20
    folder = write_folder(tmp_path, ("cat", "dog", "emu"), count=3)
    given = comparison_images(Preprocess(32, 37), str(folder), 3)
    means = given.mean(axis=(2, 3))
    for label, mean in enumerate(means):  # one of each class: the first, the middle and the last image
        colour = np.array([(label * 97) % 256, (label * 57 + 60) % 256, (label * 131 + 20) % 256]) / 255
        np.testing.assert_allclose(mean, (colour - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], atol=0.5)
