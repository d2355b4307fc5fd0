"""Predict a list of images with Ray Data.

    pip install 'tfproj[bulk]' 'ray[data]'
    python examples/ray_data.py fashion_mnist images.txt out

A second call takes what is done from the parts in ``out``: it makes the same blocks of the list.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # or it listens on all interfaces

import ray  # noqa: E402 (it reads the line above)

from tfproj import predict_paths  # noqa: E402

PART = 1000


def predicted(block, model, output):
    """A block of paths to a block of rows, which are in a part by then."""
    rows = predict_paths(model, block["item"], output, part_size=PART, scan=False)
    return {name: [row[name] for row in rows] for name in rows[0]}


def main(model, images, output):
    paths = Path(images).read_text(encoding="utf-8").splitlines()
    blocks = ray.data.from_items(paths, override_num_blocks=-(-len(paths) // PART))
    where = {"model": model, "output": os.path.abspath(output)}
    rows = blocks.map_batches(predicted, batch_size=None, fn_kwargs=where)
    print(f"{rows.count():,} rows")


if __name__ == "__main__":
    ray.init(include_dashboard=False, _node_ip_address="127.0.0.1")
    main(*sys.argv[1:])
