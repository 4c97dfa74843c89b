"""What figures are drawn from: distributions, averages, labels, times."""

import numpy as np
import pytest

from analysis.cdf import weighted_cdf
from analysis.curves import moving_average, scale_by_decades
from analysis.io import Metrics
from analysis.plots import apart, figure, legend_columns, look_of, name_ticks, short, short_number
from analysis.render import ending, number_cell
from analysis.stats import Figure
from analysis.timing import times_of


def test_a_weighted_distribution_is_the_share_of_weight_up_to_each_point() -> None:
    draw = np.random.default_rng(0)
    values, weights, grid = draw.integers(0, 9, 50).astype(float), draw.random(50), np.linspace(-1, 10, 45)
    expected = [weights[values <= x].sum() / weights.sum() for x in grid]
    assert weighted_cdf(values, weights, grid) == pytest.approx(expected)
    assert weighted_cdf(values, None, grid) == pytest.approx([(values <= x).mean() for x in grid])


def test_a_moving_average_leaves_lines_straight_and_takes_noise_off() -> None:
    line = np.linspace(3, -2, 100)
    assert moving_average(line, 9) == pytest.approx(line)
    noise = np.random.default_rng(1).standard_normal(2000)
    assert moving_average(noise, 25)[100:-100].std() == pytest.approx(0.2, rel=0.2)  # 1 / sqrt(25)
    assert moving_average(noise, 5)[7] == pytest.approx(noise[5:10].mean())


def test_names_are_moved_apart_downwards_in_their_order() -> None:
    assert apart([0.5, 0.51, 0.9, 0.505], 0.1) == pytest.approx([0.31, 0.51, 0.9, 0.41])
    assert apart([0.5, 0.5], 0.1) == pytest.approx([0.5, 0.4])
    assert apart([0.1, 0.9], 0.1) == [0.1, 0.9] and apart([], 1) == []


def test_runs_differ_without_colour_and_long_names_are_cut() -> None:
    looks = [look_of(i) for i in range(49)]
    assert len({(str(look.dash), look.marker) for look in looks}) == 49
    assert short("x" * 40, 10) == "x" * 9 + "…" and short("name", 10) == "name"


def test_numbers_of_an_axis_are_short_and_need_no_mathematics() -> None:
    assert [short_number(x) for x in (7.5e-5, 1e-10, 2.5e6, -0.25, 0)] == ["7.5e−5", "1e−10", "2.5e6", "−0.25", "0"]
    with figure(3, 2) as (made, axes):
        axes.plot([0, 1], [2e-5, 9e-5])
        scale_by_decades(axes)
        axes.yaxis.set_major_formatter(short_number)
        made.canvas.draw()
        assert {"1e−5", "0.0001"} <= {label.get_text() for label in axes.get_yticklabels()}


def test_a_legend_has_the_columns_that_fit_and_ticks_that_would_meet_are_slanted() -> None:
    assert legend_columns(["a"] * 9, 7.2) == 7 and legend_columns(["x" * 90] * 3, 7.2) == 1
    assert legend_columns(["short", "short", "a much longer label"], 3.2) == 3  # only its own column is wide
    with figure(3, 2) as (_, axes):
        axes.plot([0, 1, 10], [0, 0, 0])
        name_ticks(axes, [0, 1, 10], ["0", "1", "10"], 3.0)
        assert axes.get_xticklabels()[0].get_rotation() == 0
        name_ticks(axes, [0, 1, 10], ["none at all", "one", "ten"], 3.0)
        assert axes.get_xticklabels()[0].get_rotation() == 35


def test_times_sum_over_steps_and_name_the_roles() -> None:
    nan = np.nan
    time = {
        "generate": np.array([[2.0, 0, nan], [3, 0, nan]]),
        "update": np.array([[0, 1.0, 1], [0, 1, 1]]),
        "idle": np.array([[0.5, 2, nan], [0, 2, 1]]),
        "total": np.array([[3.0, 3, 1], [3, 3, 2]]),
        "tokens_per_s": np.array([[100.0, 0, nan], [200, 0, nan]]),
    }
    counts = np.array([1, 2])
    times = times_of(Metrics(counts, counts, 60 * counts, {}, time))
    assert times is not None and list(times.phases) == ["generate", "update", "other", "idle"]
    assert times.phases["generate"].tolist() == [5, 0, 0] and times.phases["update"].tolist() == [0, 2, 2]
    assert times.phases["other"].tolist() == [0.5, 0, 0] and times.phases["idle"].tolist() == [0.5, 4, 1]
    assert times.roles == ["rollout", "learner", "learner"] and times.sampling == {0: 150.0}
    assert times.seconds == 6 and times.tokens_per_s == 20
    assert times_of(Metrics(counts, counts, counts, {}, {})) is None and times_of(None) is None


def test_cells_have_minus_signs_but_no_negative_zero() -> None:
    minus = "\N{MINUS SIGN}"
    assert number_cell(Figure(-1.25, 0.5, -2.0, -0.0004), 3) == (
        f'{minus}1.250 ± 0.500<span class="error">{minus}2.000 to 0.000</span>'
    )
    assert number_cell(Figure(-0.0301), 2) == f"{minus}0.03" and number_cell(Figure(-0.001), 2) == "0.00"
    assert number_cell(None, 2) == "–"


def test_the_end_of_a_long_prompt_begins_with_a_whole_word() -> None:
    assert ending("short one", 10) == "short one"
    assert ending("one two three four", 12) == "… three four"
