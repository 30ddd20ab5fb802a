"""What a page consists of, without a browser."""

from __future__ import annotations

from html.parser import HTMLParser


class Tags(HTMLParser):
    """Collects tags, links and policy of a page, and checks that elements with an end are closed in order."""

    VOID = ("meta", "img", "input")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links, self.policy = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        named = dict(attrs)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html):
    tags = Tags()
    tags.feed(html)
    tags.close()
    assert tags.open == []
    return tags
