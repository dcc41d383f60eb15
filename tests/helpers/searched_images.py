"""What detect printed and wrote for images of one size."""

HEIGHT, WIDTH = 120, 160


def searched(done):
    """Return the images that have a printed line."""
    return {line.split("\t")[0] for line in done.lines}


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
