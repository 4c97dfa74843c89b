"""`report RUN...`: one self-contained HTML page of one run, of several beside each other, or of a sweep."""

from collections.abc import Callable
from pathlib import Path

from .errors import InputError, OutputError
from .output import write_whole
from .picture import save_picture
from .render import render
from .runs import decoders_of
from .selection import read_evaluated
from .shown import read_all
from .sweep import is_sweep, read_sweep
from .sweep_page import render_sweep, save_front
from .sweep_view import view_sweep

PICTURES = ("svg", "png", "pdf")
Save = Callable[[str, str], None]  # of the page's picture, to a path, as a kind


def report(paths: list[Path], out: Path, pool: Path | None, tokenizer: Path | None, picture: Path | None) -> None:
    """Writes the page to `out`, and the picture alone to `picture` (its ending says the kind)."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a run is named twice")
    kind = picture.suffix.lstrip(".").lower() if picture else PICTURES[0]
    if kind not in PICTURES:
        raise InputError(f"'{picture}': a picture ends in {', '.join(f'.{name}' for name in PICTURES)}")
    page, save = (_of_sweep if any(map(is_sweep, paths)) else _of_runs)(paths, pool, tokenizer)
    try:
        if picture is not None:
            save(str(picture), kind)
        write_whole(out, page.encode("utf-8"))
    except OSError as fault:
        raise OutputError(f"'{fault.filename or out}' cannot be written: {fault.strerror}") from fault


def _of_runs(paths: list[Path], pool: Path | None, tokenizer: Path | None) -> tuple[str, Save]:
    shown = read_all(paths, pool)
    page = render(shown, decoders_of([one.run for one in shown], tokenizer))
    return page, lambda path, kind: save_picture(shown, path, kind)


def _of_sweep(paths: list[Path], pool: Path | None, tokenizer: Path | None) -> tuple[str, Save]:
    """Runs named beside it count as its own."""
    runs, notes = read_evaluated(paths)
    names = [read_sweep(path).name if is_sweep(path) else path.resolve().name for path in paths]
    view = view_sweep(", ".join(names), runs, notes, pool, tokenizer)
    return render_sweep(view), lambda path, kind: save_front(view, path, kind)
