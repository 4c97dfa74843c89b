"""config.yaml as vbon's own writer prints it."""

import pytest

from analysis.config import lookup, parse_config
from analysis.errors import InputError

TEXT = r"""run:
  dir: ./runs/one
  seed: 7
model:
  start_token: null
  nested:
    deep: true
    number: -1.5e-05
train:
  layers: "last 4"
  quoted: "a \"b\" \\x41 \x01 \u0085 # [x]: é"
eval:
  bon_n: [1, 2, 3.5, "x, y", word/with-dash]
  empty: []
  map: {a: 1, "b c": [2, {d: null}]}
  infinite: .inf
"""


def test_every_kind_of_value_comes_back() -> None:
    config = parse_config(TEXT, "config.yaml")
    assert config["run"] == {"dir": "./runs/one", "seed": 7}
    assert config["model"] == {"start_token": None, "nested": {"deep": True, "number": -1.5e-05}}
    assert config["train"]["layers"] == "last 4"
    assert config["train"]["quoted"] == 'a "b" \\x41 \x01 \x85 # [x]: é'
    assert config["eval"]["bon_n"] == [1, 2, 3.5, "x, y", "word/with-dash"]
    assert config["eval"]["empty"] == [] and config["eval"]["map"] == {"a": 1, "b c": [2, {"d": None}]}
    assert config["eval"]["infinite"] == ".inf"


def test_lookup_falls_back_where_a_key_is_missing_or_null() -> None:
    config = parse_config(TEXT, "config.yaml")
    assert lookup(config, "run.seed") == 7
    assert lookup(config, "run.seed.deeper", 1) == 1
    assert lookup(config, "model.start_token", "none") == "none" and lookup(config, "no.such") is None


@pytest.mark.parametrize(
    "text",
    [
        "- a list\n", "a: 1\n    b: 2\n", " a: 1\n", "a: [1\n", "a: 1 2\n", "a: {b}\n", 'a: "x\n', "a: ]\n",
        "a: {[1]: 2}\n", "a: 1\na:\n  b: 2\n", "a: " + "[" * 200 + "]" * 200 + "\n", "nothing\n",
    ],
)  # fmt: skip
def test_what_vbon_does_not_write_is_refused_by_line(text: str) -> None:
    with pytest.raises(InputError, match=r"config\.yaml:\d"):
        parse_config(text, "config.yaml")
