"""The classes of all facade data sets, in label order, and the colours of their masks."""

FACADE_CLASSES = ("others", "facade", "pillar", "window", "balcony")
FACADE_COLORS = ("#000000", "#0080FF", "#80FF80", "#FF8000", "#FF0000")
