"""Samples as evenly spaced points."""

from __future__ import annotations

from gridops.observe.rows import Sample
from gridops.render.trends import TREND_MAX_AGE, TREND_MIN_AGE, Span, Trend, span


def score(sample: Sample) -> float | None:
    return sample.score


def at(*moments: float) -> tuple[Sample, ...]:
    return tuple(Sample("a", moment, "healthy", moment) for moment in moments)


def test_a_moment_belongs_to_the_part_it_falls_into():
    over = Span(100.0, 200.0, 10)
    assert [over.part(moment) for moment in (99, 100, 109.9, 110, 199, 200, 201)] == [
        None, 0, 0, 1, 9, 9, None,
    ]  # fmt: skip


def test_a_part_has_the_mean_of_its_figures():
    samples = (*at(0, 1, 11), Sample("a", 12, "degraded", None), Sample("a", 31, "healthy", 7))
    assert Trend(samples, Span(0, 40, 4)).means(score) == [0.5, 11, None, 7]


def test_outages_are_the_parts_in_which_it_did_not_answer():
    samples = (*at(1, 11), Sample("a", 12, "unreachable"))
    trend = Trend(samples, Span(0, 40, 4))
    assert trend.outages() == [False, True, False, False]
    assert trend.means(score) == [1, 11, None, None]


def test_samples_outside_do_not_count():
    trend = Trend(at(-1, 41), Span(0, 40, 4))
    assert not trend
    assert trend.means(score) == [None] * 4


def test_a_span_reaches_as_far_back_as_the_samples_do_within_limits():
    def start(*moments: float) -> float:
        return 100_000 - span({"a": at(*moments), "b": ()}, 100_000.0, 4).start

    assert start(99_999) == TREND_MIN_AGE
    assert start(98_000, 99_000) == 2000
    assert start(0, 99_999) == TREND_MAX_AGE
    assert 100_000 - span({}, 100_000.0, 4).start == TREND_MIN_AGE
