"""`report RUN...`: one self-contained HTML page of one run, or of several beside each other."""

import os
from pathlib import Path

from .decode import Decoder
from .errors import InputError, OutputError
from .picture import save_picture
from .render import render
from .runs import Run
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
    page = render(shown, [decoder_of(one.run, tokenizer) for one in shown])
    try:
        if picture is not None:
            save_picture(shown, str(picture), kind)
        write_whole(out, page)
    except OSError as fault:
        raise OutputError(f"'{fault.filename or out}' cannot be written: {fault.strerror}") from fault


def write_whole(path: Path, text: str) -> None:
    """Either the whole file is there afterwards or the old one still is."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def decoder_of(run: Run, given: Path | None) -> Decoder | None:
    """None, with a note in the run, where its samples can be shown as token ids only."""
    path = given or run.tokenizer
    if path is None:
        run.notes.append("No tokenizer.json in its checkpoints: samples are token ids. Name one with --tokenizer.")
        return None
    try:
        return Decoder(path)
    except InputError as fault:
        if given:
            raise
        run.notes.append(f"{fault}: samples are token ids.")
        return None
