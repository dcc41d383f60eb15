"""Writes an HTML page in one file: templates with style and script inside, images as data URIs.

Names come from users' data. Jinja escapes them in HTML and in the page's JSON; scripts insert them
only as text. A policy in the page's head forbids the browser to make requests.
"""

import base64
import io
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from files.images import UnreadableImage, read_image
from files.writing import save_text

logger = logging.getLogger(__name__)

# Longer side of an image on a page, in pixels, and its JPEG quality.
SIDE = 400
QUALITY = 72
# Limit on the characters of all images of a page; with data and curves, a page is below 15 MB.
MOST_CHARACTERS = 10_500_000


def write_page(
    path: str | Path, template: str, content: dict[str, Any], package: str = "detection.pages"
) -> None:
    """Fill a template and write the page atomically.

    Args:
        path: of the HTML file; replaced if it exists.
        template: file name in the ``templates`` of ``package``, or of this package.
        content: the template's variables.
        package: package with the template.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("detection.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.globals["asset"] = lambda name: Markup(_source(environment, name))
    save_text(path, environment.get_template(template).render(content) + "\n")


def _source(environment: Environment, name: str) -> str:
    """The text of a file of ``templates``, a style or script of this project."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def packed(array: NDArray) -> str:
    """An array's numbers, little-endian, in base64; the page's script knows their type."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(plain.tobytes()).decode()


def thumbnail(path: str | Path, side: int = SIDE) -> str:
    """A reduced image as a data URI: JPEG with sides of at most ``side`` pixels.

    Raises:
        FileNotFoundError, UnreadableImage: see ``read_image``.
    """
    image = Image.fromarray(read_image(path))
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def thumbnails(paths: Iterable[Path], side: int = SIDE) -> dict[int, str]:
    """Thumbnails by the index of their path, up to the limit of a page.

    An unreadable image is left out, with a warning.
    """
    found: dict[int, str] = {}
    room = MOST_CHARACTERS
    for place, path in enumerate(paths):
        try:
            uri = thumbnail(path, side)
        except (OSError, UnreadableImage) as error:
            logger.warning("not on the page: %s", error)
            continue
        room -= len(uri)
        if room < 0:
            break
        found[place] = uri
    return found
