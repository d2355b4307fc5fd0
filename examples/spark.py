"""Predict a list of images with Spark's ``mapInPandas``.

    pip install 'tfproj[bulk]' pyspark pandas
    python examples/spark.py fashion_mnist images.txt out

A second call takes what is done from the parts in ``out``: it splits the list in the same way.
"""

import os
import sys
from functools import partial
from pathlib import Path

import pandas as pd
from pyspark.sql import SparkSession

from tfproj import predict_paths

PART = 1000
COLUMNS = "image string, label string, probability double, error string"  # of a classifier


def predicted(frames, model, output):
    """Frames of paths to frames of rows, which are in a part by then."""
    for frame in frames:
        rows = predict_paths(model, frame["image"], output, part_size=PART, scan=False)
        yield pd.DataFrame(rows)


def main(model, images, output):
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # or another one that PATH has
    spark = (
        SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", PART)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    paths = Path(images).read_text(encoding="utf-8").splitlines()
    tasks = spark.sparkContext.parallelize([(path,) for path in paths], -(-len(paths) // PART))
    task = partial(predicted, model=model, output=os.path.abspath(output))
    rows = spark.createDataFrame(tasks, "image string").mapInPandas(task, COLUMNS)
    print(f"{rows.count():,} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
