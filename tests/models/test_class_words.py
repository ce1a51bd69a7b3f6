"""WordNet ids are shown with their words."""

from __future__ import annotations

from torch import nn

from vitreous.models import Classifier
from vitreous.models.class_words import class_words


def test_an_id_is_shown_in_words_and_other_names_as_they_are():
    assert class_words("n04507155") == "umbrella"
    for name in ("cat", "n1", "n99999999", "n04507155x", ""):
        assert class_words(name) == name


def test_a_classifier_names_its_answers_in_words_and_keeps_its_names():
    classifier = Classifier(nn.Identity(), class_names=["n04507155", "dog"])
    assert [classifier.class_name(i) for i in range(3)] == ["umbrella", "dog", "2"]
    assert classifier.class_names == ["n04507155", "dog"]
