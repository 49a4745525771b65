"""How good answers are, and whether two models answer the same."""

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.evaluate import relative_distance
from modelfleet_server.builds.metrics import find_metric, own
from modelfleet_server.builds.metrics.detection import overlap
from modelfleet_server.builds.metrics.text import distance, read

Array = NDArray[Any]
RNG = np.random.default_rng(5)


def floats(*rows: object) -> Array:
    return np.array(rows, np.float32)


def judge(name: str, answers: Array, truth: Array) -> float:
    metric = find_metric(name)
    metric.check(answers, truth)
    return metric.score(answers, truth)


def same(name: str, answers: Array, reference: Array) -> list[bool]:
    return [bool(one) for one in find_metric(name).same(answers, reference)]


def test_classes_are_right_or_wrong() -> None:
    scores = floats([3, 1, 2], [0, 0, 1], [1, 5, 0], [9, 8, 0])
    assert judge("classification", scores, np.array([0, 2, 1, 1])) == 0.75
    moved = scores + floats([0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 2, 0])
    assert same("classification", moved, scores) == [True, True, True, False]
    assert list(find_metric("classification").margins(scores)) == [1, 1, 4, 1]


def test_one_probability_decides_between_two_classes() -> None:
    chances = floats([0.9], [0.4], [0.51])
    assert judge("classification", chances, np.array([1, 0, 0])) == pytest.approx(2 / 3)
    assert find_metric("classification").margins(chances).argmin() == 2


def test_numbers_are_judged_by_their_error_beside_their_spread() -> None:
    truth = RNG.normal(50, 10, (1000, 1)).astype(np.float32)
    assert judge("regression", truth, truth) == 1
    off = truth + RNG.choice([-1, 1], truth.shape).astype(np.float32)
    assert judge("regression", off, truth) == pytest.approx(0.9, abs=0.01)
    assert same("regression", truth + 0.1, truth) == [True] * 1000
    assert not any(same("regression", truth + 5, truth))


def box(kind: int, x: float, score: float = 1.0) -> list[float]:
    return [x, 0, x + 10, 10, score, kind]


def labels(*boxes: tuple[int, float]) -> list[list[float]]:
    filled = [[kind, x, 0, x + 10, 10] for kind, x in boxes]
    return filled + [[-1, 0, 0, 0, 0]] * (3 - len(boxes))


def test_boxes_that_are_found_and_those_that_are_not() -> None:
    truth = floats(labels((0, 0), (0, 50), (1, 20)), labels((1, 0)))
    perfect = floats(
        [box(0, 0), box(0, 50), box(1, 20)], [box(1, 0), box(0, 0, 0), box(0, 0, 0)]
    )
    assert judge("detection", perfect, truth) == 1
    # one of two boxes of class 0 is missed: half its area; class 1 is whole
    missed = perfect.copy()
    missed[0, 1, 4] = 0
    assert judge("detection", missed, truth) == 0.75
    # a false box that is surer than the true ones
    wrong = floats([box(0, 90, 0.99), box(0, 0, 0.9), box(0, 50, 0.8)], [box(1, 0)] * 3)
    assert judge("detection", wrong, truth[:, :2]) == pytest.approx((2 / 3 + 1) / 2)
    assert same("detection", missed, perfect) == [False, True]
    assert same("detection", perfect + floats(0.5), perfect) == [False, False]  # classes
    shaky = perfect.copy()
    shaky[..., :4] += 0.5
    assert same("detection", shaky, perfect) == [True, True]


def test_a_box_counts_once() -> None:
    twice = floats([box(0, 0, 0.9), box(0, 1, 0.8)])
    assert judge("detection", twice, floats(labels((0, 0)))) == 1
    both = floats(labels((0, 0), (0, 50)))
    assert judge("detection", twice, both) == 0.5


def test_the_overlap_of_boxes() -> None:
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float64)
    shares = overlap(np.array([0, 0, 10, 10], np.float64), others)
    assert shares == pytest.approx([1, 1 / 3, 0])


def steps(*signs: int) -> Array:
    """Scores that are read as these signs, step by step."""
    return np.eye(5, dtype=np.float32)[list(signs)] + np.float32(0.1)


def test_text_is_read_without_blanks_and_repeats() -> None:
    scores = np.stack([steps(1, 1, 0, 1, 2, 2), steps(0, 0, 3, 3, 4, 0)])
    assert read(scores) == [[1, 1, 2], [3, 4]]
    truth = np.array([[1, 1, 2], [3, 3, -1]])
    assert judge("text-exact", scores, truth) == 0.5
    assert judge("text-cer", scores, truth) == pytest.approx(1 - 1 / 5)
    assert same("text-exact", scores[:, ::-1], scores) == [False, False]
    unsure = scores.copy()
    unsure[1, 2, 3] = 0.15
    assert find_metric("text-cer").margins(unsure).argmin() == 1


def test_text_and_whole_numbers_are_text_too() -> None:
    words = np.array([["ab"], ["cd"]], object)
    assert judge("text-exact", words, np.array(["ab", "ce"])) == 0.5
    assert judge("text-cer", words, np.array(["ab", "ce"])) == 0.75
    signs = np.array([[1, 2, -1], [3, -1, -1]])
    assert judge("text-exact", signs, np.array([[1, 2], [3, -1]])) == 1


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edits_are_counted_both_ways(one: str, other: str) -> None:
    assert distance(one, other) == distance(other, one)
    assert abs(len(one) - len(other)) <= distance(one, other) <= max(len(one), len(other))
    assert (distance(one, other) == 0) is (one == other)


def test_vectors_point_where_they_should() -> None:
    vectors = RNG.normal(size=(20, 8)).astype(np.float32)
    assert judge("cosine", vectors * 3, vectors) == pytest.approx(1)
    assert judge("cosine", -vectors, vectors) == pytest.approx(-1)
    assert same("cosine", vectors + 0.01, vectors) == [True] * 20


def test_what_belongs_together_is_found_together() -> None:
    middles = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    vectors = middles + RNG.normal(0, 0.1, middles.shape).astype(np.float32)
    kinds = np.arange(4).repeat(5)
    assert judge("retrieval", vectors, kinds) == 1
    assert judge("retrieval", vectors, np.arange(20)) == 0
    assert len(find_metric("retrieval").margins(vectors)) == 20


@pytest.mark.parametrize(
    ("name", "answers", "truth"),
    [
        ("classification", np.zeros((4, 3, 2)), np.zeros(4, int)),
        ("classification", np.zeros((4, 3)), np.zeros(4)),
        ("regression", np.zeros((4, 3)), np.zeros((4, 2))),
        ("regression", np.array([["a"]]), np.zeros((1, 1))),
        ("detection", np.zeros((4, 3, 5)), np.zeros((4, 3, 5))),
        ("detection", np.zeros((4, 3, 6)), np.zeros(4)),
        ("text-cer", np.zeros((4, 3)), np.zeros((4, 3), int)),
        ("text-exact", np.zeros((4, 3, 2)), np.zeros((4, 3))),
        ("cosine", np.zeros((4, 3)), np.zeros((4, 2))),
        ("retrieval", np.zeros((4, 3, 2)), np.zeros(4)),
    ],
)
def test_what_cannot_be_judged_is_told(name: str, answers: Array, truth: Array) -> None:
    with pytest.raises(DatasetError) as caught:
        judge(name, answers, truth)
    assert caught.value.hint


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install an entry point `mine`, which is the named thing of this module."""

    def put(what: str) -> None:
        entry = EntryPoint("mine", f"{__name__}:{what}", own.GROUP)

        def found(*, group: str, name: str) -> list[EntryPoint]:
            return [entry] if (group, name) == (own.GROUP, "mine") else []

        monkeypatch.setattr(own, "entry_points", found)

    return put


def nearness(answers: Array, truth: Array) -> Array:
    return np.asarray(np.clip(1 - np.abs(answers[:, 0] - truth), 0, 1))


def too_much(answers: Array, truth: Array) -> Array:
    return np.full(len(answers), 7)


def broken(answers: Array, truth: Array) -> Array:
    raise RuntimeError("no idea")


def test_an_operator_brings_a_metric_of_their_own(install: Callable[[str], None]) -> None:
    install("nearness")
    metric = find_metric("mine")
    answers, truth = floats([1], [2]), np.array([1, 2.5])
    metric.check(answers, truth)
    assert metric.score(answers, truth) == 0.75
    assert list(metric.same(answers + floats([0], [0.4]), answers)) == [True, False]
    assert list(metric.margins(answers)) == [0.5, 0]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("too_much", "gives an array"),
        ("broken", "no idea"),
        ("nothing_there", "cannot be imported"),
    ],
)
def test_an_own_metric_that_fails_is_told(
    install: Callable[[str], None], what: str, words: str
) -> None:
    install(what)
    with pytest.raises(DatasetError, match=words):
        find_metric("mine").check(floats([1]), np.array([1]))


def test_how_far_answers_are_off_is_a_share_of_their_length() -> None:
    one = np.array([[3.0, 4.0]], np.float32)
    assert relative_distance(one, one) == 0
    assert relative_distance(one * 1.5, one) == pytest.approx(0.5)
    assert relative_distance(-9 * one, one) == 1  # what is further off is no worse
    assert relative_distance(one[:, :1], one) == 1
    words = np.array(["a", "b", "c", "d"])
    assert relative_distance(words, np.array(["a", "b", "c", "x"])) == 0.5
