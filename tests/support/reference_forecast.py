"""The method of forecasts once more, written to be read: what `core/forecast.py` is held against.

One list of (value, weight, whether given up) a question; everything is worked out anew. The order
of evaluation is that of the core, so that both give the same bits; but for calls that were given
up, whose weight is handed on here one by one.
"""

from __future__ import annotations

SEEDS = (0.78, 0.86, 0.90, 0.94, 0.98, 1.02, 1.06, 1.11, 1.17, 1.28)


class Straight:
    """What is told from the newest calls, (p, c, ms, ratio, given up), the oldest first."""

    def __init__(self, coefficients, calls, count):
        self.a, self.b, self.base = coefficients
        self.count = count
        self.window = []  # (weight, call), the oldest first
        for age, call in enumerate(reversed(calls)):
            place = count - 1 - age
            if age < 150 and place >= min(10, count // 2):
                self.window.insert(0, ((150 - age) / 150, call))
        self.window = [(weight, self.completed(*call)) for weight, call in self.window]

    def predicted(self, p, c):
        return max(1.0, self.base + self.a * p + self.b * c)

    def completed(self, p, c, ms, ratio, given_up):
        """The call with a ratio, and with a completion length if it was given up without one."""
        if given_up and c == 0:
            known = sorted(call[1] for _, call in self.window if not call[4])
            c = known[len(known) // 2] if known else 128
            if self.b > 0.0:
                c = max(c, int(min((ms - (self.base + self.a * p)) / self.b, 2.0**31)))
            ratio = None
        return p, c, ms, ms / self.predicted(p, c) if ratio is None else ratio, given_up

    def lengths(self, cap):
        return [c if cap is None else min(c, cap) for _, (_, c, *_) in self.window]

    def likeness(self, p):
        found = []
        for weight, (q, *_) in self.window:
            far = 2 / 0.2 * (q - p) / (q + p + 40)
            found.append(weight * (0.6 + 1.25 / (1.0 + far * far)))
        return found

    def sample(self, p, c=None, cap=None):
        """[(value, weight)] in order."""
        found = []
        if c is None:
            lengths = self.lengths(cap)
            for d, weight, (_, call) in zip(lengths, self.likeness(p), self.window, strict=True):
                found.append((self.predicted(p, d) * call[3], weight, call[4]))
            middle = sorted(lengths)[len(lengths) // 2] if lengths else 128
            middle = self.predicted(p, middle if cap is None else min(middle, cap))
        else:
            middle = self.predicted(p, c)
            for weight, call in self.window:
                found.append((middle * call[3], weight, call[4]))
        if self.count < 30:
            found += [(middle * seed, 1.0 - self.count / 30, False) for seed in SEEDS]
        return without_given_up(found)

    def left(self, p, elapsed, c=None, cap=None, tokens=None, ttft=None):
        """[(what is left, weight)] in order."""
        if not tokens or ttft is None or c is not None:
            return [(ms - elapsed, w) for ms, w in self.sample(p, c, cap) if ms > elapsed]
        pace = (elapsed - ttft) / (tokens + 0.5)
        lengths = zip(self.lengths(cap), self.likeness(p), strict=True)
        return sorted(((d - tokens - 0.5) * pace, w) for d, w in lengths if d > tokens)


def without_given_up(values):
    """Hand on the weight of each value that is known from below only, in order, one by one."""
    values = sorted(values, key=lambda one: (one[0], one[2]))
    place = 0
    while place < len(values):
        _, weight, given_up = values[place]
        later = values[place + 1 :]
        if given_up and later:
            rest = sum(w for _, w, _ in later)
            later = [(value, w + weight * w / rest, flag) for value, w, flag in later]
            values[place:] = later
        else:
            place += 1
    return sorted((value, weight) for value, weight, _ in values)


def total_of(sample):
    total = 0.0
    for _, weight in sample:
        total += weight
    return total


def quantile(sample, level):
    total = total_of(sample) + 1.0
    wanted, before, places = level * total - 0.5, 0.0, []
    for _, weight in sample:
        places.append(before + 0.5 * weight)
        before += weight
    for place in range(len(sample)):
        if places[place] >= wanted:
            if place == 0:
                return sample[0][0]
            low, high = sample[place - 1][0], sample[place][0]
            share = (wanted - places[place - 1]) / (places[place] - places[place - 1])
            return min(high, low + share * (high - low))
    return sample[-1][0]


def chance(sample, ms):
    return (total_of([one for one in sample if one[0] <= ms]) + 0.5) / (total_of(sample) + 1.0)


def mean(sample):
    total = 0.0
    for value, weight in sample:
        total += weight * value
    return total / total_of(sample)


def quantile_of_left(left, elapsed, level):
    weight = total_of(left)
    share = (weight + 1.0 - 1.0) / (weight + 1.0)
    if left and level <= share:
        return quantile(left, level)
    largest = left[-1][0] if left else 0.0
    beyond = (level - share) / (1.0 - share)
    return (elapsed + largest) * (1.0 - beyond) ** (-1.0 / 3.0) - elapsed
