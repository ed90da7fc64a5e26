"""Detection and acceptance against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from datasets.folder import scan
from evaluation.calibration import Threshold
from evaluation.intervals import interval
from evaluation.rejection import Acceptance, Detection, auroc, find_unknown
from tests.pictures import write_folder
from utils.errors import DataError


def judged(known, unknown):
    """Return the area and the false positives at 95 % true ones by scikit-learn."""
    truth, scores = np.repeat([1, 0], [len(known), len(unknown)]), np.concatenate([known, unknown])
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return roc_auc_score(truth, scores), false[np.argmax(true >= 0.95 - 1e-12)]


@pytest.mark.parametrize(("known", "unknown", "places"), [(131, 40, 9), (20, 300, 1), (400, 7, 2), (19, 19, 0)])
def test_detection_is_scikit_learns(known, unknown, places):
    rng = np.random.default_rng(known)
    sure = rng.beta(4, 1.5, known).round(places), rng.beta(3, 2, unknown).round(places)  # with few places many ties
    found = Detection.of(*sure)
    area, false = judged(*sure)
    assert found.auroc == pytest.approx(area)
    assert found.fpr / 100 == pytest.approx(false)
    assert found.known_accepted >= 0.95 * known
    assert (found.known, found.unknown) == (known, unknown)


def test_detection_by_hand():
    known = np.array([0.9, 0.8, 0.5, 0.5])
    assert auroc(known, np.array([0.5, 0.1])) == (4 + 1 + 1 + 2 * 0.5) / 8  # 0.1 is below all, 0.5 below two
    assert auroc(known, known) == 0.5
    assert auroc(known, known + 1) == 0
    found = Detection.of(np.arange(1, 21) / 20, np.array([0.05, 0.1, 0.1, 0.9]))  # from 0.1 on
    assert (found.known_accepted, found.unknown_accepted, found.fpr) == (19, 3, 75)
    assert str(found) == (
        "4 unknown images, 20 known: AUROC of the confidence 0.7375; where 95 % of the known are accepted (19/20), "
        "75.00 % of the unknown are (3/4)"
    )
    assert found.to_dict() == {
        **{"known": 20, "unknown": 4, "auroc": 0.7375, "known_accepted": 19, "unknown_accepted": 3},
        "fpr95": 75,
    }


THRESHOLD = Threshold(target=0.9, confidence=float(np.float32(0.7)), images=60, accepted=50, right=50)


def test_what_a_threshold_accepts_is_counted():
    sure = np.array([0.9, 0.7, np.float32(0.7), 0.69, 0.8, 0.2])
    correct = np.array([True, False, True, True, True, False])
    found = Acceptance.of(THRESHOLD, sure, correct, np.array([0.71, 0.5, 0.1]))
    assert (found.images, found.accepted, found.right, found.unknown, found.unknown_rejected) == (6, 4, 3, 3, 2)
    assert (found.rejected, found.acc) == (pytest.approx(100 / 3), 75)
    low, high = interval(3, 4)
    assert str(found) == (
        f"--reject 0.9 (below a confidence of 0.7000): rejects 2 of 6 images (33.3 %); right on 3 of the other 4: "
        f"75.00 %, 95 % interval {low:.1f} to {high:.1f}; rejects 2 of 3 unknown images (66.7 %)"
    )
    assert found.to_dict()["low"] == low
    assert found.to_dict()["target"] == 0.9


def test_where_nothing_is_accepted_no_accuracy_is_said():
    found = Acceptance.of(THRESHOLD, np.array([0.1, 0.2]), np.array([True, False]))
    assert str(found) == "--reject 0.9 (below a confidence of 0.7000): rejects 2 of 2 images (100.0 %)"
    assert [found.to_dict()[name] for name in ("acc", "low", "high", "unknown")] == [None, None, None, 0]


def test_only_a_folder_of_other_images_is_of_no_known_class(tmp_path):
    known = scan(write_folder(tmp_path / "known", count=2))
    other = write_folder(tmp_path / "other", ("owl",), count=3)
    (tmp_path / "empty").mkdir()
    found = find_unknown(str(other), known)
    assert found == {str(other / "owl" / f"{number:03d}.png"): True for number in range(3)}
    (other / "again.png").symlink_to(tmp_path / "known" / "cat" / "000.png")
    for folder, words in (
        (other, "1 of its 4 images are among those of .*, such as .*again.png"),
        (known.root / "dog", "2 of its 2 images are among those"),
        (tmp_path / "empty", "no images in it"),
        (tmp_path / "none", "no such folder"),
        (other / "again.png", "not a folder"),
    ):
        with pytest.raises(DataError, match=f"^--unknown_dir {folder}: {words}"):
            find_unknown(str(folder), known)
