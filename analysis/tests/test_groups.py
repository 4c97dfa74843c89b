"""Which configurations are seeds of one another."""

from analysis.groups import differing, recipe

CONFIG = {
    "run": {"dir": "runs/a", "seed": 1},
    "train": {"method": "vbon"},
    "cluster": {"threads": 1, "lag": 0, "roles": {"rollout": 1}},
    "checkpoint": {"every": 0},
}


def test_where_and_how_fast_a_run_was_makes_no_other_method():
    other = CONFIG | {"run": {"dir": "runs/b", "seed": 2}, "checkpoint": {"every": 5}}
    other["cluster"] = {"threads": 2, "lag": 0, "roles": "all"}
    assert recipe(CONFIG) == recipe(other)


def test_samples_one_version_behind_do():
    other = CONFIG | {"cluster": CONFIG["cluster"] | {"lag": 1}}
    assert differing([recipe(CONFIG), recipe(other)]) == ["cluster.lag"]
