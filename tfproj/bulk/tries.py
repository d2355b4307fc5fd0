"""Which image was being predicted when its process died: a mark on disk that outlives it."""

from __future__ import annotations

import json
from collections import Counter

from tfproj.bulk import places

TRIES = 3


class Tries:
    """A block that does one part; where it is left by a death, the next one is careful.

    The first death says only which part it was. From then on images go one by one, each named on
    disk before it is touched.

    Attributes:
        careful: an earlier try of this part died, or still runs elsewhere.
        set_aside: images at which it died ``TRIES`` times.
    """

    def __init__(self, url: str):
        self._url = url
        try:
            record = json.loads(places.read(url))
        except (FileNotFoundError, ValueError):  # the second: of a store that is not atomic
            record = None
        self.careful = record is not None
        self._deaths = Counter((record or {}).get("deaths", {}))
        if record and record["at"] is not None:
            self._deaths[record["at"]] += 1
        self.set_aside = {image for image, count in self._deaths.items() if count >= TRIES}

    def __enter__(self) -> Tries:
        self.at(None)
        return self

    def __exit__(self, *_: object) -> None:
        places.remove(self._url)

    def at(self, image: str | None) -> None:
        """Say which image comes next."""
        record = {"at": image, "deaths": self._deaths}
        places.write(self._url, json.dumps(record).encode())
