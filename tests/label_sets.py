"""A drawn data set with several labels an image: shapes of three colours, or none of them."""

import numpy as np
from PIL import Image

CLASSES = ("red", "green", "blue")


def draw_shapes(index, size=20):
    """uint8 (size, size, 3) of grey noise with some coloured rectangles, and their colours."""
    rng = np.random.default_rng([7, index])
    pixels = rng.integers(40, 90, (size, size, 3))
    present = [c for c in range(3) if rng.random() < (0.5, 0.4, 0.25)[c]]
    for color in present:
        top, left = rng.integers(0, size - 6, 2)
        pixels[top : top + 6, left : left + 6, color] = rng.integers(170, 255)
    return pixels.astype(np.uint8), [CLASSES[c] for c in present]


def write_shapes(folder, counts, size=20):
    """``images/SPLIT_N.png`` of so many images by split; (file, split, labels) of each."""
    (folder / "images").mkdir(parents=True)
    rows, index = [], 0
    for split, count in counts.items():
        for _ in range(count):
            pixels, labels = draw_shapes(index, size)
            rows.append((f"images/{split}_{index}.png", split, labels))
            Image.fromarray(pixels).save(folder / rows[-1][0])
            index += 1
    return rows


def write_cells(folder, rows, separator="|"):
    """``labels.csv`` with all labels of an image in one cell."""
    lines = [f"{file},{separator.join(labels)},{split}" for file, split, labels in rows]
    (folder / "labels.csv").write_text("file,label,split\n" + "\n".join(lines) + "\n")
