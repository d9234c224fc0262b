"""Boosted trees, stored as the learner stores them and read as the scorer reads them."""

import json

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.learn_extraction import stored
from homelab_ai.crawling.extraction.trees import Trees


def test_they_say_what_the_model_says_that_they_were_taken_from() -> None:
    dice = np.random.default_rng(0)
    table = dice.normal(size=(1200, 5)).round(2).astype(np.float32)  # thresholds are kept with five digits
    answers = (table[:, 1] > 0.3) ^ (table[:, 3] * table[:, 0] > 0)
    model = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=6, early_stopping=False).fit(table, answers)
    names = ["one", "two", "three", "four", "five"]
    trees = Trees(json.loads(json.dumps(stored(model, names))))
    found = trees.of([table[:, names.index(name)] for name in trees.figures])
    wanted = model.decision_function(table)
    assert np.abs(found - wanted).max() < 0.02
    assert np.ptp(wanted) > 2


def test_a_leaf_alone_says_the_same_of_every_row() -> None:
    alone = {"figures": ["one"], "start": 0.5, "depth": 0, "roots": [0]}
    trees = Trees(alone | {"column": [0], "line": [0.0], "below": [0], "value": [0.25]})
    assert trees.of([np.array([1.0, -1.0])]).tolist() == [0.75, 0.75]
