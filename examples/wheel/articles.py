"""How an article is shown: what the application and its migrations share."""

from markdown import markdown


def as_html(text: str) -> str:
    """Return an article's text as HTML."""
    return str(markdown(text))
