"""What a training prints of its result."""

from semipose.training.result import TrainResult


def test_scores_of_body_parts_are_saved_but_not_printed(tmp_path):
    scores = {"f": {"AP": None, "PCKh@0.5": 0.5, "PCKh@0.5/head": 0.75}}
    assert "PCKh@0.5 50.0\n" in repr(TrainResult(tmp_path, scores, ("f",), "the protocol", 12.0, "f"))


def test_a_result_shows_its_scores(tmp_path):
    scores = {"F": {"AP": 0.5, "AR": None, "pixel_error": 7.0}, "R": {"AP": 0.25}}
    text = repr(TrainResult(tmp_path, scores, ("F",), "the protocol", 12.0, "F"))
    assert "F (best): AP 50.0  pixel_error 7.0" in text
    assert "R: AP 25.0" in text
    assert text.endswith("the protocol")
