"""`report RUN...`: one self-contained HTML page of one run, or of several beside each other."""

from pathlib import Path

from .errors import InputError, OutputError
from .output import write_whole
from .picture import save_picture
from .render import render
from .runs import decoders_of
from .shown import read_all

PICTURES = ("svg", "png", "pdf")


def report(paths: list[Path], out: Path, pool: Path | None, tokenizer: Path | None, picture: Path | None) -> None:
    """Writes the page to `out`, and the picture alone to `picture` (its ending says the kind)."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a run is named twice")
    kind = picture.suffix.lstrip(".").lower() if picture else PICTURES[0]
    if kind not in PICTURES:
        raise InputError(f"'{picture}': a picture ends in {', '.join(f'.{name}' for name in PICTURES)}")
    shown = read_all(paths, pool)
    page = render(shown, decoders_of([one.run for one in shown], tokenizer))
    try:
        if picture is not None:
            save_picture(shown, str(picture), kind)
        write_whole(out, page.encode("utf-8"))
    except OSError as fault:
        raise OutputError(f"'{fault.filename or out}' cannot be written: {fault.strerror}") from fault
