"""What a browser would make of a report: its elements, resources, visible text and tables."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input", "base", "source", "track", "col", "area", "embed", "wbr"}


class Page(HTMLParser):
    """Fails on elements that are not nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # (tag, name, value)
        self.text = ""  # outside of <style>
        self.style = ""
        self.rows: list[list[str]] = []  # of tables, by row
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            self.style += data
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data + ("|" if "span" not in self._open else "")
