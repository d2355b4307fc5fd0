import json

from conftest import draw
from PIL import Image

from tfproj.cli.data_report import SHOWN, format_report
from tfproj.data.check import check


def test_json_is_plain_and_complete(mask_folder):
    root = mask_folder({"train": 3, "val": 1})
    (root / "train" / "masks" / "0.png").unlink()
    report = check(str(root))
    record = json.loads(json.dumps(report.to_dict()))
    assert record["ok"] is False and record["classes"] == ["ground", "road"]
    train = record["splits"]["train"]
    assert train["examples"] == 2 and train["modes"] == {"RGB": 2}
    assert train["height"] == {"min": 16, "median": 16, "max": 16}
    assert train["classes"]["road"].keys() == {"images", "pixels"}
    assert record["problems"] == [
        {
            "severity": "error",
            "file": f"{root}/train/images/0.jpg",
            "message": "image without mask of the same name",
            "kind": "unpaired",
        }
    ]


def test_the_text_has_tables_and_the_problems_last(class_folder):
    root = class_folder({"train": {"cat": 30, "dog": 4}, "val": {"cat": 1, "dog": 1}})
    Image.fromarray(draw(999, (20, 16))).convert("L").save(root / "train" / "dog" / "grey.png")
    for path in (root / "train" / "cat").iterdir():
        path.write_bytes(b"")
    lines = format_report(check(str(root))).splitlines()
    assert lines[0] == f"{root}: classify, 2 classes, from {root}"
    assert lines[2:5] == [
        "split  examples              height  width       modes",
        "train        35  12..20 (median 12)     16  RGB 4, L 1",
        "val           2                  12     16       RGB 2",
    ]
    assert lines[6:9] == ["class  train  val", "cat       30    1", "dog        5    1"]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == SHOWN + 1 and errors[-1] == "error: ... and 10 more (unreadable)"
    assert lines[-1] == "30 errors, 0 warnings"


def test_shares_of_pixels_in_the_text(mask_folder):
    text = format_report(check(str(mask_folder({"train": 3, "val": 1}))))
    assert "class   train images  train pixels  val images  val pixels" in text
    assert text.endswith("\n\nno problems found")
