"""What a browser would see of a page."""

from html.parser import HTMLParser

_VOID = ("meta", "br", "link", "img", "input", "wbr")


class Page(HTMLParser):
    """Tags, addresses that would be asked for, and the text of a page; no tag stays open or is crossed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.text, self.attributes = [], [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        asked = ("href",) if tag == "link" else () if tag == "a" else ("src", "href", "action", "data", "srcset")
        self.links += [value for name, value in attrs if name in asked]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data
