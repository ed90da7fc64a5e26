"""The table of labels: what comes with each image stays with it."""

import json

import numpy as np

from evaluation.predictions import Predictions

FOUND = Predictions(
    ["a", "b", "c"],
    ["cat", "dog"],
    np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]),
    unreadable=1,
    rejected=np.array([False, True, False]),
    features=np.arange(6, dtype="float32").reshape(3, 2),
    nearest=[[("x", 0.5), ("y", 0.25)], [("y", 1.0), ("x", 0.0)], [("x", -0.5), ("y", -1.0)]],
)


def test_rows_that_are_taken_keep_what_belongs_to_them():
    found = FOUND.take(["c", "missing", "a", "c"])
    assert found.paths == ["c", "a", "c"]
    assert found.classes == ["dog", "cat", "dog"]
    assert found.rejected.tolist() == [False, False, False]
    assert found.features.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert found.nearest == [FOUND.nearest[2], FOUND.nearest[0], FOUND.nearest[2]]
    assert (found.class_names, found.unreadable, found.exit_code) == (["cat", "dog"], 1, 3)


def test_neighbours_stand_between_what_is_rejected_and_the_classes():
    assert FOUND.table(all_classes=True).splitlines()[:3:2] == [
        "path,predicted,probability,rejected,nearest,cosine,nearest_2,cosine_2,p_cat,p_dog",
        "b,,0.500000,1,y,1.000000,x,0.000000,0.500000,0.500000",
    ]
    assert FOUND.rows()[0] == {
        **{"path": "a", "predicted": "cat", "probability": 0.75, "rejected": False},
        **{"nearest": "x", "cosine": 0.5, "nearest_2": "y", "cosine_2": 0.25},
    }
    assert json.loads(FOUND.table("json", 2))[1] == {
        "path": "b",
        "top": [{"class": "", "probability": 0.5}] * 2,
        "rejected": True,
        "nearest": [{"path": "y", "cosine": 1.0}, {"path": "x", "cosine": 0.0}],
    }
