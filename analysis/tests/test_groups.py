"""Which configurations are seeds of one another."""

from types import SimpleNamespace

from analysis.groups import cells, differing, recipe

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


def test_texts_that_only_measure_a_reward_make_no_other_method():
    def rewards(heldout, labels="a.jsonl"):
        return recipe(CONFIG | {"rewards": {"style": {"N": 4, "train": {"labels": labels, "heldout": heldout}}}})

    assert rewards("x.jsonl") == rewards("y.jsonl")
    assert rewards("x.jsonl") != rewards("x.jsonl", labels="b.jsonl")


def test_a_key_that_an_older_program_did_not_write_tells_nothing_apart():
    def run(**changes):
        return SimpleNamespace(config=CONFIG | changes)

    old, new, changed = run(), run(pool={"prefix_samples": 0}), run(pool={"prefix_samples": 32})
    assert cells([old, new, old]) == [(0, 1, 2)]
    assert cells([new, changed, old]) == [(0,), (1,), (2,)], "which of the two the old one is nobody knows"
    assert cells([old, run(rewards={"style": {"N": 4}})]) == [(0,), (1,)], "one reward more is another method"
