"""Pictures that are like others: copies, leaks between splits, and those that are like none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from tfproj.core.words import plural
from tfproj.data.findings import Suspicion
from tfproj.evaluation.features import Look

NEIGHBOURS = 5
BLOCK = 2**24  # likenesses that are held at a time
# Copies, 24 px a side, correlate by 0.998 and more, scaled to a third or saved as JPEG of quality
# 20, and by 0.98 where 2 % of each side are cut off; the nearest two of 600 flowers by 0.86, but
# half of the clothes of Fashion-MNIST by 0.95. So a copy is as near as COPY, and NEARER times as
# near as pictures of the set are to their nearest.
COPY, NEARER = 0.025, 20
SAME_SHOT = 2  # numbers apart
SECONDS = 10  # apart, by EXIF
DRAWN = 50_000  # pairs that say what chance does
FEW = 10  # pairs that say nothing yet
TIMES_CHANCE = 3
MODULI = 50  # are tried
EVIDENCE = 20  # natural logarithm of a likelihood ratio
# Robust standard deviations: of 906 facades the farthest is at 5.7, flowers among them at 11.
STRANGE = 6.0

Predicate = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of rows (P,) and (P,): bool (P,)


class Tie(NamedTuple):
    """What ties pictures of one thing together.

    Attributes:
        code: of its finding.
        words: which pictures it is about.
        advice: what to do.
        ties: whether it ties two pictures.
        facts: for JSON.
    """

    code: str
    words: str
    advice: str
    ties: Predicate
    facts: dict


def neighbours(vectors: np.ndarray, among: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """The nearest other pictures, the nearest first: rows int (N, K), likenesses float32 (N, K).

    Every pair is compared, in blocks: of 100,000 pictures a small part of what their features take.

    Args:
        vectors: float32 (N, F), of length 1.
        among: float32 (N, F), what they are compared with; None: themselves.
    """
    count, among = len(vectors), vectors if among is None else among
    width = min(NEIGHBOURS, count - 1)
    rows, values = np.zeros((count, width), int), np.zeros((count, width), np.float32)
    step = max(1, BLOCK // count)
    for start in range(0, count, step):
        likeness = vectors[start : start + step] @ among.T
        own = np.arange(len(likeness))
        likeness[own, start + own] = -np.inf
        nearest = np.argpartition(likeness, count - width, axis=1)[:, count - width :]
        found = np.take_along_axis(likeness, nearest, 1)
        order = np.argsort(-found, axis=1, kind="stable")
        rows[start : start + step] = np.take_along_axis(nearest, order, 1)
        values[start : start + step] = np.take_along_axis(found, order, 1)
    return rows, values


class Leaks:
    """Pictures of one thing by their names or times, where the pictures agree that they are.

    A way to name pictures counts where it ties pictures to their nearest neighbours far more often
    than it ties any two of a class.

    Args:
        rows: of :func:`neighbours`.
    """

    def __init__(self, look: Look, rows: np.ndarray):
        self._look, self._near = look, (np.arange(len(look)), rows[:, 0])
        self._drawn = _drawn_pairs(look)
        self.ties: list[Tie] = []
        for tie in (_modulus(look, self._near, self._drawn), *_others(look)):
            if tie is not None and self._evidence(tie.ties)[0] > EVIDENCE:
                self.ties.append(tie)

    def explain(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether the pictures of each pair are tied, or in one group of the data set."""
        known = np.zeros(len(first), bool)
        if self._look.groups is not None:
            known |= self._look.groups[first] == self._look.groups[second]
        for tie in self.ties:
            known |= tie.ties(first, second)
        return known

    def findings(self) -> Iterator[Suspicion]:
        """Ties that are divided between splits."""
        look, (first, second) = self._look, self._near
        splits = np.array([split for split, _ in look.where], object)
        untold = splits[first] != splits[second]
        for tie in self.ties:
            hit = tie.ties(first, second) & untold
            untold &= ~hit
            if not hit.any():
                continue
            _, share, chance = self._evidence(tie.ties)
            a, b = first[hit][0], second[hit][0]
            message = (
                f"{tie.words} are nearest to each other: {share:.0%} of all pictures, {chance:.1%} "
                f"by chance. {plural(int(hit.sum()), 'such pair')} lie in two splits, such as "
                f"{look.file(a)} in {splits[a]!r} and {look.file(b)} in {splits[b]!r}; {tie.advice}"
            )
            shown = [
                row for pair in np.stack([first[hit], second[hit]], 1)[:4].tolist() for row in pair
            ]
            facts = {"share": share, "chance": chance, "pairs": int(hit.sum()), **tie.facts}
            images = tuple(look.where[row] for row in shown)
            yield Suspicion(look.file(a), tie.code, message, images=images, facts=facts)

    def _evidence(self, ties: Predicate) -> tuple[float, float, float]:
        """(logarithm of a likelihood ratio, share of near pairs that are tied, that by chance)."""
        return _evidence(ties(*self._near), ties(*self._drawn))


def _evidence(near: np.ndarray, drawn: np.ndarray) -> tuple[float, float, float]:
    """How much more often pairs are tied (bool, each) than drawn ones; the first 0 where not."""
    share, chance = float(near.mean()), float((drawn.sum() + 0.5) / (len(drawn) + 1))
    if near.sum() < FEW or share < TIMES_CHANCE * chance:
        return 0.0, share, chance
    ratio = share * np.log(share / chance)
    if share < 1:
        ratio += (1 - share) * np.log((1 - share) / (1 - chance))
    return float(len(near) * ratio), share, chance


def _drawn_pairs(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different pictures, of one class where there are classes."""
    rng, labels = np.random.default_rng(0), look.labels
    first = rng.integers(0, len(look), DRAWN)
    if labels is None:
        second = rng.integers(0, len(look), DRAWN)
    else:
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels)
        begins = np.cumsum(counts) - counts
        own = labels[first]
        second = order[begins[own] + (rng.random(DRAWN) * counts[own]).astype(int)]
    different = first != second
    return first[different], second[different]


def _modulus(look: Look, near, drawn) -> Tie | None:
    """The number M for which pictures N, N + M, N + 2 M are most surely one thing."""
    numbers = look.numbers

    def ties(modulus: float, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        apart = np.abs(numbers[first] - numbers[second])
        return (apart > 0) & (apart % modulus == 0)  # neither is true of NaN

    if np.isnan(numbers).any():  # which --group-modulus would refuse
        return None
    apart, counts = np.unique(np.abs(numbers[near[0]] - numbers[near[1]]), return_counts=True)
    often = (counts >= FEW) & (apart > SAME_SHOT)
    tried = apart[often][np.argsort(-counts[often])][:MODULI]
    if not len(tried):
        return None
    found = [_evidence(ties(m, *near), ties(m, *drawn))[0] for m in tried]
    best = int(tried[int(np.argmax(found))])
    return Tie(
        "source",
        f"pictures N, N + {best}, N + {2 * best}, ...",
        f"keep them in one split: --group-modulus {best}, where tfproj holds out 'val'",
        partial(ties, best),
        {"modulus": best},
    )


def _others(look: Look) -> Iterator[Tie]:
    """By what stands before the number, by neighbouring numbers, by the time."""
    stems = np.unique(look.stems, return_inverse=True)[1]
    numbered = ~np.isnan(look.numbers)

    def same(first, second):
        return (stems[first] == stems[second]) & numbered[first] & numbered[second]

    def within(values: np.ndarray, reach: float, first, second):
        return np.abs(values[first] - values[second]) <= reach  # which is false of NaN

    advice = "name those of one scene a group in groups.csv, and they stay in one split"
    if 1 < stems.max(initial=0) + 1 <= len(look) / 2:
        words = "pictures whose names are the same but for the last number"
        yield Tie("source", words, advice, same, {})
    yield Tie(
        "burst",
        "pictures with neighbouring numbers",
        advice,
        lambda a, b: same(a, b) & within(look.numbers, SAME_SHOT, a, b),
        {},
    )
    seconds = partial(within, look.times, SECONDS)
    yield Tie("burst", f"pictures taken within {SECONDS} s (EXIF)", advice, seconds, {})


def near_duplicates(look: Look, explained: Predicate, known: set[str]) -> Iterator[Suspicion]:
    """Pictures that are another one, scaled, compressed or mirrored; each once.

    Args:
        explained: which pairs need not be told of, see :meth:`Leaks.explain`.
        known: files that the check has called duplicates.
    """
    thumbs = look.thumbs.reshape(len(look), -1)
    mirrored = look.thumbs[:, :, ::-1].reshape(len(look), -1)
    rows, values = map(
        np.hstack, zip(neighbours(thumbs), neighbours(mirrored, thumbs), strict=True)
    )
    usual = np.quantile(values[:, 0], 0.25)
    first, place = np.nonzero(values > 1 - min(COPY, (1 - usual) / NEARER))
    second = rows[first, place]
    told = set()
    for entry in np.lexsort((np.minimum(first, second), np.maximum(first, second))):
        a, b = sorted((int(first[entry]), int(second[entry])))
        if b in told or look.file(b) in known or explained(np.array([a]), np.array([b]))[0]:
            continue
        told.add(b)
        yield _near_duplicate(
            look, a, b, float(thumbs[a] @ thumbs[b]), float(mirrored[a] @ thumbs[b])
        )


def _near_duplicate(look: Look, a: int, b: int, straight: float, mirrored: float) -> Suspicion:
    (here, _), (there, _) = look.where[b], look.where[a]
    message = f"nearly the same image as {look.file(a)}{', mirrored' * (mirrored > straight)}"
    code, advice = "near_duplicate", "keep one of them"
    if here != there:
        code, advice = "leak", "remove one of them, or keep both in one split"
        message = f"in {here!r}, but {message} in {there!r}"
    if look.labels is not None and look.labels[a] != look.labels[b]:
        advice = f"they have two labels; {advice}"
    likeness = max(straight, mirrored)
    facts = {"other": look.file(a), "likeness": likeness, "mirrored": mirrored > straight}
    images = (look.where[b], look.where[a])
    return Suspicion(look.file(b), code, f"{message}; {advice}", images=images, facts=facts)


def out_of_place(look: Look, values: np.ndarray) -> Iterator[Suspicion]:
    """Pictures that are far from their nearest neighbours, where all others are near.

    Args:
        values: of :func:`neighbours`.
    """
    distance = 1 - values.mean(1)
    middle = np.median(distance)
    spread = 1.4826 * np.median(np.abs(distance - middle))
    score = (distance - middle) / max(spread, 1e-6)
    for row in np.argsort(-score, kind="stable"):
        if score[row] < STRANGE:
            return
        what = "unlike all others" if look.thumbs[row].any() else "of one colour"
        message = f"{what}; remove it if it does not belong to the task"
        facts = {"distance": float(distance[row]), "deviations": float(score[row])}
        images = (look.where[row],)
        yield Suspicion(look.file(row), "out_of_place", message, images=images, facts=facts)
