"""The layers of the sources, and documents that are generated from them."""
import importlib.util
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def load_layers():
    spec = importlib.util.spec_from_file_location("layers", ROOT / "tests/layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_include_lower_layers_only():
    assert load_layers().violations() == []


def test_the_check_sees_a_violation():
    layers = load_layers()
    assert layers.layer_of("vbon/train/learner.hpp") == "train"
    assert layers.layer_of("model/json.hpp") == "model"
    assert layers.layer_of("vector") is None
    assert layers.RANK["train"] > layers.RANK["model"]
    for text in ("std::chrono::system_clock::now()", "std::time(nullptr)", "::time(&now)", "clock_gettime(CLOCK_REALTIME, &t)"):
        assert layers.WALL_CLOCK.search(text), text
    for text in ("steady_clock::now()", "row.time(step)", "run_time(x)", "utc_now()"):
        assert not layers.WALL_CLOCK.search(text), text
