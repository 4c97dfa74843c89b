"""Running a command as a user does, and looking at what it left behind."""

import csv
from pathlib import Path
from xml.etree import ElementTree

from analysis.__main__ import main


class Done:
    """A command that succeeded: what it wrote, what it printed."""

    def __init__(self, capsys, out: Path, *arguments: object) -> None:
        capsys.readouterr()
        self.code = main([*(str(argument) for argument in arguments), "-o", str(out)])
        self.out, printed = out, capsys.readouterr()
        self.text, self.notes = printed.out, printed.err
        assert self.code == 0, self.notes

    @property
    def files(self) -> set[str]:
        """Names of all files, each of which has to be printed too."""
        found = {str(path.relative_to(self.out)) for path in self.out.rglob("*") if path.is_file()}
        assert found == {str(Path(line).relative_to(self.out)) for line in self.text.split("\n")
                         if line.startswith(str(self.out))}  # fmt: skip
        return found

    def rows(self, name: str) -> list[dict[str, str]]:
        """Of a CSV file; its Markdown has to have as many."""
        with open(self.out / f"{name}.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        markdown = (self.out / f"{name}.md").read_text(encoding="utf-8")
        assert sum(line.startswith("|") for line in markdown.split("\n")) == len(rows) + 2
        return rows

    def notes_of(self, name: str) -> str:
        """The Markdown of a table with its notes."""
        return (self.out / f"{name}.md").read_text(encoding="utf-8")

    def require_figures(self, *names: str) -> None:
        """Each as PNG and as SVG that parses."""
        for name in names:
            assert (self.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert ElementTree.parse(self.out / f"{name}.svg").getroot().tag.endswith("}svg")


def fails(capsys, *arguments: object, code: int = 2) -> str:
    """The one line of a command that has to fail."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("analysis: error: ") and error.count("\n") == 1
    return error
