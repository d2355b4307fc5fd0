"""One drawn data set, written as each of the formats has it: for tests of the readers."""

import base64
import io
import json

import numpy as np
from PIL import Image

CLASSES = ("background", "car", "road", "tree")
COLORS = ("#000000", "#E02040", "#808080", "#20A040")
SIZE = (40, 56)  # (height, width)
PARTS = {"train": 4, "val": 2}

RING = [(4, 4), (24, 4), (24, 20), (4, 20), (4, 4), (9, 9), (9, 15), (18, 15), (18, 9), (9, 9)]
# Image number -> (class, corners) in order: overlaps, a hole reached by a bridge, slanted edges,
# a polygon that leaves the image and one that crosses itself.
SHAPES = {
    0: [
        ("road", [(0, 25), (56, 18.5), (56, 40), (0, 40)]),
        ("car", [(20, 22), (33.25, 20), (30, 31)]),
    ],
    1: [("tree", RING), ("car", [(12, 2), (30, 11), (8, 18)])],
    2: [("car", [(-6, -6), (14, 5), (3, 17)]), ("tree", [(30, 5), (50, 35), (50, 5), (30, 35)])],
    3: [("road", [(0, 0), (56, 40), (0, 40)]), ("road", [(40, 2), (52, 2), (46, 12.75)])],
    4: [],
    5: [
        ("tree", [(8, 8), (48, 8), (48, 32), (8, 32)]),
        ("road", RING),
        ("car", [(40, 30), (55, 36), (41, 39)]),
    ],
}


def drawn(number):
    """uint8 (H, W): centres of pixels against edges, one by one."""
    mask = np.zeros(SIZE, np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for name, corners in SHAPES[number]:
        inside = np.zeros(SIZE, bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if y0 != y1:
                rows = (min(y0, y1) <= y) & (y < max(y0, y1))
                inside ^= rows & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
        mask[inside] = CLASSES.index(name)
    return mask


def numbers(split):
    start = {"train": 0, "val": PARTS["train"]}[split]
    return range(start, start + PARTS[split])


def stem(number):
    return f"{'train' if number < PARTS['train'] else 'val'}_é{number}"


def encoded(number):
    file = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 90, (*SIZE, 3))
    Image.fromarray((noise + 30 * drawn(number)[..., None]).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_image(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number))


def write_mask(path, number, mode="L"):
    """``mode``: L values, P with a palette of the colors, RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(drawn(number))
    palette = [int(color[i : i + 2], 16) for color in COLORS for i in (1, 3, 5)]
    if mode != "L":
        picture.putpalette(palette)
    picture.convert(mode).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")


def write_classes(root):
    rows = "".join(f"{name},{color}\n" for name, color in zip(CLASSES, COLORS, strict=True))
    write_text(root / "classes.csv", "name,color\n" + rows)


def rle(mask):
    """Uncompressed run lengths, column by column."""
    flat, counts, value = mask.T.ravel().tolist(), [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def compressed(counts):
    """As rleToString of pycocotools."""
    text = ""
    for index, count in enumerate(counts):
        rest = count - (counts[index - 2] if index > 2 else 0)
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def _segmentation(number, index, kind):
    corners = SHAPES[number][index][1]
    if kind == "polygons":
        return [[side for corner in corners for side in corner]]
    alone = {number: [SHAPES[number][index]]}
    mask = _only(alone, number)
    counts = rle(mask)
    return {"size": list(SIZE), "counts": compressed(counts) if kind == "compressed" else counts}


def _only(shapes, number):
    """0 and 1: the one region, by itself."""
    whole = SHAPES[number]
    SHAPES[number] = shapes[number]
    try:
        return (drawn(number) > 0).astype(np.uint8)
    finally:
        SHAPES[number] = whole


def coco_record(split, kind="polygons"):
    images, annotations = [], []
    for number in numbers(split):
        size = {"height": SIZE[0], "width": SIZE[1]}
        images.append({"id": 100 + number, "file_name": f"{stem(number)}.png", **size})
        for index, (name, _) in enumerate(SHAPES[number]):
            shape = _segmentation(number, index, kind)
            key = {"id": len(annotations), "image_id": 100 + number, "iscrowd": 0}
            annotations.append(
                {**key, "category_id": 7 + CLASSES.index(name), "segmentation": shape}
            )
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES) if i]
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def coco(root, kind="polygons"):
    for split in PARTS:
        write_text(root / "annotations" / f"instances_{split}2017.json", coco_record(split, kind))
        for number in numbers(split):
            write_image(root / f"{split}2017" / f"{stem(number)}.png", number)


def coco_roboflow(root):
    for split, name in (("train", "train"), ("val", "valid")):
        write_text(root / name / "_annotations.coco.json", coco_record(split))
        for number in numbers(split):
            write_image(root / name / f"{stem(number)}.png", number)


def yolo(root, places="images/{}", labels="labels/{}"):
    for split in PARTS:
        for number in numbers(split):
            write_image(root / places.format(split) / f"{stem(number)}.png", number)
            lines = [
                f"{CLASSES.index(name) - 1} "
                + " ".join(f"{x / SIZE[1]:.6f} {y / SIZE[0]:.6f}" for x, y in corners)
                for name, corners in SHAPES[number]
            ]
            if lines:  # else there is no file, as YOLO has it
                write_text(root / labels.format(split) / f"{stem(number)}.txt", "\n".join(lines))
    text = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES[1:]))
    places = "".join(f"{split}: {places.format(split)}\n" for split in PARTS)
    write_text(root / "data.yaml", f"path: ../datasets/x\n{places}names:\n{text}")


def yolo_roboflow(root):
    yolo(root, "{}/images", "{}/labels")
    text = (root / "data.yaml").read_text(encoding="utf-8")
    text = text.replace("train: ", "train: ../").replace("val: ", "val: ../")
    write_text(
        root / "data.yaml", text.split("names")[0] + "nc: 3\nnames: ['car', 'road', 'tree']\n"
    )


def voc(root, mode="P", table=True):
    for split in PARTS:
        names = "".join(f"{stem(number)}\n" for number in numbers(split))
        write_text(root / "ImageSets" / "Segmentation" / f"{split}.txt", names)
        for number in numbers(split):
            write_image(root / "JPEGImages" / f"{stem(number)}.png", number)
            write_mask(root / "SegmentationClass" / f"{stem(number)}.png", number, mode)
    lines = [
        f"{name}:{','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))}::\n"
        for name, color in zip(CLASSES, COLORS, strict=True)
    ]
    write_text(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(lines))


def labelme(root):
    for split in PARTS:
        for number in numbers(split):
            write_image(root / split / f"{stem(number)}.png", number)
            shapes = [_labelme_shape(number, index) for index in range(len(SHAPES[number]))]
            size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
            record = {"version": "5.4.1", "shapes": shapes, "imagePath": f"{stem(number)}.png"}
            write_text(root / split / f"{stem(number)}.json", {**record, "imageData": None, **size})


def _labelme_shape(number, index):
    """A polygon; a mask in Base64 and a rectangle where the shape is one."""
    name, corners = SHAPES[number][index]
    shape = {"label": name, "points": corners, "shape_type": "polygon", "group_id": None}
    if corners == SHAPES[5][0][1]:
        shape |= {"shape_type": "rectangle", "points": [corners[0], corners[2]]}
    if corners is RING and number == 5:
        mask = _only({number: [(name, corners)]}, number)[4:20, 4:24]
        file = io.BytesIO()
        Image.fromarray(mask * np.uint8(255)).convert("1").save(file, "PNG")
        text = base64.b64encode(file.getvalue()).decode()
        shape |= {"shape_type": "mask", "points": [[4.0, 4.0], [23.0, 19.0]], "mask": text}
    return shape


def masks(root, images, masks, mode="L", table=write_classes):
    """Images and masks under paths such as ``{split}annot/{stem}.png``."""
    for split in PARTS:
        for number in numbers(split):
            names = {"split": split, "stem": stem(number)}
            write_image(root / images.format(**names), number)
            write_mask(root / masks.format(**names), number, mode)
    table(root)


def label_colors(root):
    lines = [
        f"{' '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))}\t{name}\n"
        for name, color in zip(CLASSES, COLORS, strict=True)
    ]
    write_text(root / "label_colors.txt", "".join(lines))


def class_dict(root):
    lines = [
        f"{name},{','.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))}\n"
        for name, color in zip(CLASSES, COLORS, strict=True)
    ]
    write_text(root / "class_dict.csv", "name, r, g, b\n" + "".join(lines))


def nnunet(root):
    """Of which only the test split is told; val becomes that."""
    for split, ending in (("train", "Tr"), ("val", "Ts")):
        for number in numbers(split):
            write_image(root / f"images{ending}" / f"{stem(number)}_0000.png", number)
            write_mask(root / f"labels{ending}" / f"{stem(number)}.png", number)
    labels = {name: value for value, name in enumerate(CLASSES)}
    names = {"0": "R", "1": "G", "2": "B"}
    write_text(
        root / "dataset.json", {"channel_names": names, "labels": labels, "file_ending": ".png"}
    )


LABELS = ("car", "road", "tree")


def label_of(number):
    return LABELS[number % 3]


def class_folders(root, split_names=("train", "val")):
    for split, name in zip(PARTS, split_names, strict=True):
        for number in numbers(split):
            write_image(root / name / label_of(number) / f"{stem(number)}.png", number)


def metadata_csv(root):
    """As Hugging Face has it: paths are relative to the table, in the folder of each split."""
    for split in PARTS:
        for number in numbers(split):
            write_image(root / split / "x" / f"{stem(number)}.png", number)
        rows = "".join(f"x/{stem(n)}.png,{label_of(n)}\n" for n in numbers(split))
        write_text(root / split / "metadata.csv", "file_name,label\n" + rows)


def csv_with_splits(root):
    lines = []
    for split in PARTS:
        for number in numbers(split):
            write_image(root / "images" / f"{stem(number)}.png", number)
            lines.append(f"images\\{stem(number)}.png,{label_of(number)},{split}\n")
    write_text(root / "labels.csv", "Filename,Label,Split\n" + "".join(lines))


def csv_of_numbers(root):
    """A table for each split, and the classes in another."""
    for split in PARTS:
        for number in numbers(split):
            write_image(root / f"{split}_images" / f"{stem(number)}.png", number)
        rows = "".join(f"{stem(n)}.png,{n % 3}\n" for n in numbers(split))
        write_text(root / f"{split}.csv", "image,label\n" + rows)
    write_text(root / "classes.csv", "name\n" + "\n".join(LABELS) + "\n")


def parquet(root, names=True):
    """As the library ``datasets`` writes it, in two files for training."""
    import pyarrow
    import pyarrow.parquet

    label = {"names": LABELS, "_type": "ClassLabel"} if names else {"_type": "Value"}
    features = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    for split, name in (("train", "train"), ("val", "validation")):
        for part, chosen in enumerate((numbers(split)[:2], numbers(split)[2:])):
            images = [{"bytes": encoded(n), "path": f"{stem(n)}.png"} for n in chosen]
            labels = [n % 3 if names else label_of(n) for n in chosen]
            kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
            table = pyarrow.table({"image": pyarrow.array(images, kind), "label": labels})
            table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
            (root / "data").mkdir(parents=True, exist_ok=True)
            if chosen:
                file = root / "data" / f"{name}-0000{part}-of-00002.parquet"
                pyarrow.parquet.write_table(table, file)
