"""What a command leaves behind: figures as PNG and SVG, tables as Markdown and CSV, each written whole or not."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import OutputError
from .tabular import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


class Output:
    """A folder, made when the first file is written; `written` in the order of writing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []

    def table(self, name: str, table: Table) -> None:
        self.text(f"{name}.md", table.to_markdown())
        self.text(f"{name}.csv", table.to_csv())

    def figure(self, name: str, made: "Drawing") -> None:
        """`made`: a figure of plots.py, inside of its block. The same figure gives the same bytes."""
        from .plots import save_figure  # matplotlib is loaded only where something is drawn

        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            save_figure(made, buffer, kind)
            made.set_layout_engine("none")  # where the first has put everything, the second leaves it
            self._write(f"{name}.{kind}", buffer.getvalue())

    def text(self, name: str, text: str) -> None:
        self._write(name, text.encode("utf-8"))

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as fault:
            raise OutputError(f"'{fault.filename or path}' cannot be written: {fault.strerror}") from fault
        self.written.append(path)


def write_whole(path: Path, content: bytes) -> None:
    """Either the whole file is there afterwards or the old one still is."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
