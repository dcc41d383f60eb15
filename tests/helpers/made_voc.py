"""Small data sets in VOC's layout."""

from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 60, 40
SIZE = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"


def object_xml(
    name: str = "dog",
    corners: tuple = (11, 6, 20, 15),
    difficult: str | None = "0",
    inner: str = "",
) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{flag}{inner}<bndbox>{box}</bndbox></object>"


def add_images(folder: Path, size: str = SIZE, **objects: str) -> Path:
    """Add black images by id, with the XML of their objects, to a folder; return the folder."""
    main = folder / "ImageSets/Main"
    main.mkdir(parents=True, exist_ok=True)
    for image_id, text in objects.items():
        annotation = folder / "Annotations" / f"{image_id}.xml"
        image = folder / "JPEGImages" / f"{image_id}.jpg"
        for path in (annotation, image):
            path.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(f"<annotation>{size}{text}</annotation>", encoding="utf-8")
        Image.new("RGB", (WIDTH, HEIGHT)).save(image)
    with (main / "train.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{image_id}\n" for image_id in objects)
    return folder
