"""A hook of the site: equations between lines of $$ become MathML, which browsers can show."""

import re

from latex2mathml.converter import convert


def on_page_markdown(markdown: str, **_) -> str:
    """mkdocs calls this with the text of every page."""
    return re.sub(
        r"^\$\$\n(.*?)\n\$\$$",
        lambda found: convert(found[1], display="block"),
        markdown,
        flags=re.MULTILINE | re.DOTALL,
    )
