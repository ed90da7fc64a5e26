import itertools
import threading

import numpy as np
import paddle
import paddle.vision.transforms as T
import pytest

from datasets import loader
from datasets.cache import CachedImages, StreamedImages
from datasets.folder import scan
from datasets.loader import Dataset, ahead, normalise, order, training_batches
from datasets.preprocess import MEAN, STD, Preprocess
from tests.pictures import write_folder, write_odd_folder
from utils.errors import DataError
from utils.rng import generator


@pytest.fixture
def images(tmp_path):
    found = scan(write_folder(tmp_path, count=5))
    return Dataset.of(StreamedImages(found, Preprocess(32, 37)), found.class_names)


def test_every_epoch_is_a_permutation_and_every_batch_full():
    stream = np.concatenate([order(15, 4, seed=3, step=step) for step in range(30)])
    epochs = stream[:120].reshape(8, 15)
    assert all(sorted(epoch) == list(range(15)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    assert len(order(3, 8, seed=0, step=5)) == 8  # more than there are images


def test_a_batch_depends_on_seed_and_step_alone(images):
    run = list(itertools.islice(training_batches(images, 4, seed=1), 7))
    late = next(training_batches(images, 4, seed=1, start=6))
    assert paddle.equal_all(run[6].images, late.images)
    assert run[6].index.tolist() == late.index.tolist()
    other = next(training_batches(images, 4, seed=2, start=6))
    assert not paddle.equal_all(run[6].images, other.images)


def test_shards_of_a_batch_are_the_batch(images):
    whole = next(training_batches(images, 6, seed=1, start=2))
    shards = [next(training_batches(images, 6, seed=1, start=2, shard=slice(i, i + 3))) for i in (0, 3)]
    assert paddle.equal_all(paddle.concat([shard.images for shard in shards]), whole.images)
    assert shards[0].index.tolist() + shards[1].index.tolist() == whole.index.tolist()


def test_targets_are_one_hot_in_the_order_of_classes(images):
    batch = next(training_batches(images, 8, seed=0))
    expected = np.eye(3)[images.labels[batch.index.numpy()]]
    np.testing.assert_array_equal(batch.targets.numpy(), expected)
    assert batch.targets.dtype == paddle.float32
    assert batch.mix is None


def test_labels_follow_the_given_classes(tmp_path):
    found = scan(write_folder(tmp_path, count=1))
    swapped = Dataset.of(StreamedImages(found, Preprocess(32, 37)), ["emu", "dog", "cat"])
    assert swapped.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_the_evaluation_transform_equals_paddle_vision(tmp_path, keep_aspect):
    found = scan(write_odd_folder(tmp_path / "images"))
    store = CachedImages(found, Preprocess(32, 37, keep_aspect), tmp_path / "cache")
    store.prepare(range(len(found)), "")
    ours = paddle.concat([batch for batch, _ in Dataset.of(store, found.class_names).batches(3)]).numpy()
    chain = T.Compose([T.CenterCrop(32), T.ToTensor(), T.Normalize(list(MEAN), list(STD))])
    theirs = np.stack([chain(np.asarray(pixels)).numpy() for pixels in store.pixels(range(len(found)))])
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_normalise_is_the_same_wherever_it_is_done():
    crops = np.random.default_rng(1).integers(0, 256, (5, 7, 7, 3), dtype="uint8")
    settings = loader.scale_and_shift(MEAN, STD)
    here, there = loader._normalised_here(crops, *settings), loader._normalised_there(crops, *settings)
    assert here.dtype == there.dtype == paddle.float32
    np.testing.assert_array_equal(here.numpy(), there.numpy())


def test_normalise_against_numpy():
    crops = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype="uint8")
    expected = ((crops / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    result = normalise(crops, Preprocess())
    assert list(result.shape) == [2, 3, 5, 4]
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def test_normalise_takes_mean_and_deviation_from_the_preprocessing():
    crops = np.array([0, 255], dtype="uint8").reshape(1, 1, 2, 1).repeat(3, axis=3)
    result = normalise(crops, Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.25)))
    np.testing.assert_allclose(result.numpy()[0, :, 0], [[-1, 1], [-1, 1], [-2, 2]], atol=1e-6)


def test_the_ordinary_constants_keep_their_bits():
    scale, shift = loader.scale_and_shift(MEAN, STD)
    np.testing.assert_array_equal(scale, (1 / (255 * np.array(STD, dtype="float32"))).reshape(3, 1, 1))
    expected = (np.array(MEAN, dtype="float32") / np.array(STD, dtype="float32")).reshape(3, 1, 1)
    np.testing.assert_array_equal(shift, expected)
    assert scale.dtype == shift.dtype == np.float32


def test_a_failure_in_the_thread_is_raised_here(tmp_path):
    root = write_folder(tmp_path, count=2)
    (root / "cat" / "000.png").write_bytes(b"broken")
    found = scan(root)
    with pytest.raises(DataError, match="cat/000.png"):
        list(Dataset.of(StreamedImages(found, Preprocess(32, 37)), found.class_names).batches(2))


def test_streamed_images_are_decoded_by_several_threads_at_once(tmp_path, monkeypatch):
    together = threading.Barrier(3, timeout=10)  # broken, an error here, unless three arrive

    def decode(path, preprocess):
        together.wait()
        return path[-7:]

    monkeypatch.setattr("datasets.cache.workers", lambda: 3)
    monkeypatch.setattr("datasets.cache.decode", decode)
    found = scan(write_folder(tmp_path, count=3))
    assert StreamedImages(found, Preprocess(32, 37)).pixels([0, 1, 2]) == ["000.png", "001.png", "002.png"]


def test_ahead_keeps_the_order_and_leaves_no_thread():
    before = threading.active_count()
    assert list(ahead(iter(range(50)))) == list(range(50))
    unfinished = ahead(itertools.count())
    assert [next(unfinished) for _ in range(3)] == [0, 1, 2]
    unfinished.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(timeout=2)
    assert threading.active_count() <= before


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    drawn = []

    def counted(seed, purpose, epoch):
        drawn.append(epoch)
        return generator(seed, purpose, epoch)

    monkeypatch.setattr(loader, "generator", counted)
    loader._permutation.cache_clear()
    rows = np.concatenate([loader.order(103, 8, 5, step) for step in range(26)])
    assert drawn == [0, 1, 2]
    expected = np.concatenate([generator(5, "order", epoch).permutation(103) for epoch in range(3)])
    assert np.array_equal(rows, expected[: len(rows)])
    with pytest.raises(ValueError, match="read-only"):
        loader._permutation(103, 5, 0)[0] = 1
