"""The lowest layer: names, text, images and artefacts, each read and checked in one place."""
