"""Finds fonts for class names, which may be in any script.

matplotlib includes DejaVu Sans, which has Latin, Greek, Cyrillic, Arabic and more. For other
letters, the system's fonts are searched. ASCII names need no search, and so no import of
matplotlib, which takes a sixth of a second.
"""

import logging
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont


def _dejavu() -> Path:
    """The file of DejaVu Sans; matplotlib is imported only if its data are elsewhere."""
    inside = "fonts/ttf/DejaVuSans.ttf"
    spec = find_spec("matplotlib")
    if spec and spec.origin and (path := Path(spec.origin).parent / "mpl-data" / inside).exists():
        return path
    import matplotlib

    return Path(matplotlib.get_data_path()) / inside


DEJAVU = _dejavu()
# Characters of the score that follows a class name.
SCORE = "0123456789.-"

logger = logging.getLogger(__name__)


@cache
def fonts_of(names: tuple[str, ...]) -> dict[str, Path]:
    """For each name, the file of a font that has its letters and those of a score.

    It is DejaVu Sans or, if that lacks letters, the first of the system's fonts that has them. If
    there is none, it is DejaVu Sans, which draws boxes; one warning then names all these letters.

    Args:
        names: of classes.
    """
    fonts, lacking = {}, set()
    for name in names:
        letters = "".join(sorted(_letters(name + SCORE)))
        found = _font_with(letters)
        if found is None:
            lacking |= _lacking(str(DEJAVU), letters)
        fonts[name] = found or DEJAVU
    if lacking:
        logger.warning(
            "no font on this machine has the letters %s, so they are drawn as boxes; install a "
            "font that has them, such as Noto Sans CJK for Chinese, Japanese and Korean",
            " ".join(sorted(lacking)),
        )
    return fonts


@cache
def _font_with(letters: str) -> Path | None:
    """The first font with these letters: DejaVu Sans, then the system's by name; None if none."""
    if (letters.isascii() and letters.isprintable()) or not _lacking(str(DEJAVU), letters):
        return DEJAVU
    for path in _system_fonts():
        try:
            if not _lacking(path, letters):
                ImageFont.truetype(path, 12)  # fails for fonts of fixed sizes, such as emojis
                return Path(path)
        except (OSError, RuntimeError, ValueError):
            logger.debug("%s is not a font that can be read", path)
    return None


@cache
def _system_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts

    return tuple(sorted(findSystemFonts()))


def _lacking(font: str, letters: Iterable[str]) -> set[str]:
    """The letters that a font file lacks."""
    from matplotlib.ft2font import FT2Font

    face = FT2Font(font)
    return {letter for letter in letters if not face.get_char_index(ord(letter))}


def _letters(text: str) -> set[str]:
    """The visible letters of a text, without white space and marks of direction or joining."""
    return {letter for letter in text if unicodedata.category(letter) not in ("Cf", "Zs")}
