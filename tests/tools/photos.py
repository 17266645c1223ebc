"""Folders of images as users have them: awkward formats, bad files, links."""

import os

import numpy as np
from PIL import Image

CLASSES = ("bird", "cat", "dog")


def pixels(rng, label, size=12):
    """An image whose brightness tells its class."""
    return rng.normal(40 + 80 * label, 20, (size, size, 3)).clip(0, 255).astype(np.uint8)


def write(directory, count=20, sizes=(12,), classes=CLASSES, seed=0):
    """Writes so many images per class in turns of kinds; what PIL reads of each, by path."""
    rng = np.random.default_rng(seed)
    seen = {}
    for label, name in enumerate(classes):
        os.makedirs(os.path.join(directory, name), exist_ok=True)
        for number in range(count):
            image = Image.fromarray(pixels(rng, label, sizes[number % len(sizes)]))
            path = os.path.join(directory, name, f"{number}.png")
            kind = number % 7
            if kind == 1:
                image.convert("L").save(path)
            elif kind == 2:
                path = path.replace(".png", ".jpg")
                image.convert("CMYK").save(path, quality=95)
            elif kind == 3:
                image = image.convert("P")
                image.save(path)
            elif kind == 4:
                gray = np.asarray(image.convert("L")).astype(np.uint16) * 257
                Image.fromarray(gray).save(path)
                image = image.convert("L")
            elif kind == 5:
                path = path.replace(".png", ".gif")
                image = image.convert("P")
                image.save(path, save_all=True, append_images=[image.rotate(90)])
            elif kind == 6:
                image = image.convert("RGBA")
                image.save(path)
            else:
                image.save(path)
            if kind == 4:
                seen[path] = np.asarray(image.convert("RGB"))
                continue
            with Image.open(path) as read:
                seen[path] = np.asarray(read.convert("RGB"))
    return seen


def spoil(directory):
    """Adds what a folder of images may hold besides images."""
    join = os.path.join
    os.makedirs(join(directory, "empty"))
    os.makedirs(join(directory, "cat", "more"))
    with open(join(directory, "cat", "notes.txt"), "w") as file:
        file.write("hello")
    with open(join(directory, "cat", "broken.jpg"), "wb") as file:
        file.write(b"\xff\xd8\xff" + b"0" * 50)
    for path in (join(directory, "dog", "empty.png"), join(directory, "README")):
        with open(path, "w"):
            pass
    os.symlink(join(directory, "dog"), join(directory, "cat", "more", "dogs"))
    os.symlink(directory, join(directory, "dog", "up"))
