"""Loaded once, by the process that the commands are forked from: TensorFlow takes six seconds."""

from tfproj import backend

backend.setup()

import tfproj.cli.train  # noqa: E402, F401
import tfproj.evaluation.evaluate  # noqa: E402, F401
import tfproj.export.build  # noqa: E402, F401
import tfproj.export.quantize  # noqa: E402, F401
import tfproj.search.tune  # noqa: E402, F401
import tfproj.training.train  # noqa: E402, F401
