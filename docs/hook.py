"""MkDocs hook: put what the code says of itself where a page asks for it.

A line ``<!-- generated: detectors -->`` in a page is replaced by the fragment of that name.
"""

import re
from typing import Any

from fragments import FRAGMENTS

MARKER = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the fragments of a page.

    Raises:
        KeyError: A page asks for a fragment that does not exist.
    """
    return MARKER.sub(lambda marker: FRAGMENTS[marker[1]](), markdown)
