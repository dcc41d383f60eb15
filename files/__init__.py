"""The floor under every other room: names, text, images and artefacts, each read in one place."""
