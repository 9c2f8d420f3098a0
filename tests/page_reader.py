"""A page, taken apart."""

from html.parser import HTMLParser


class PageReader(HTMLParser):
    """Collects tags, addresses and text, and checks that every tag is closed."""

    asking = ("src", "srcset", "href", "action", "data")
    void = ("meta", "img", "br", "source", "input")

    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.texts, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attributes if name in ("src", "srcset", "href", "action", "data")
        ]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def pictures(self):
        """How many drawings there are, light and dark counted once."""
        return self.tags.count("picture")

    @property
    def text(self):
        return " ".join(self.texts)
