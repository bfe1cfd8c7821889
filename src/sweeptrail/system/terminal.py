"""What may be shown on a terminal, which takes some characters for commands."""


def shown(text: str) -> str:
    """Return text of others without what a terminal would obey: its lines and tabs stay as they are."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
