"""Kinds of error written out slowly, a detection at a time: the twin of ``error_kinds``."""

from slow_voc_ap import slow_averages

FALSE = ("place", "class", "both", "duplicate", "background")


def overlap_of(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def slow_kinds(rows, records, classes):
    """Return the objects, and (class, score, kind, object) of each detection.

    ``rows``: class, image id, score, box, by decreasing score. An object is (image id, place in
    the record).
    """
    objects = {
        (record.image_id, place): (classes[label], box.astype(float), hard)
        for record in records
        for place, (box, label, hard) in enumerate(
            zip(record.boxes, record.labels, record.difficult, strict=True)
        )
    }
    claimed, told = set(), []
    for name, image_id, score, box in rows:
        best = {True: (-1.0, None), False: (-1.0, None)}
        for key, (owner, truth, _) in objects.items():
            overlap = overlap_of(box, truth)
            if key[0] == image_id and overlap > best[owner == name][0]:
                best[owner == name] = overlap, key
        (own, on), (other, stranger) = best[True], best[False]
        if own >= 0.5 and objects[on][2]:
            kind = "ignored"
        elif own >= 0.5 and on not in claimed:
            kind = "found"
            claimed.add(on)
        elif own >= 0.5:
            kind = "duplicate"
        elif own >= 0.1:
            kind = "place"
        elif other >= 0.5:
            kind, on = "class", stranger
        elif other >= 0.1:
            kind, on = "both", stranger
        else:
            kind, on = "background", None
        told.append((name, score, kind, on))
    return objects, told


def slow_gains(objects, told, classes):
    """Return how much the mean AP gains if the errors of each kind are corrected."""
    counted = {key for key, (_, _, hard) in objects.items() if not hard}
    plain = _mean_ap(objects, told, classes, counted, None)
    gains = {kind: _mean_ap(objects, told, classes, counted, kind) - plain for kind in FALSE}
    seen = {on for _, _, kind, on in told if kind in ("found", "place", "class")}
    return gains | {"missed": _mean_ap(objects, told, classes, counted & seen, None) - plain}


def _mean_ap(objects, told, classes, counted, mended):
    """Return the mean over the classes with objects; if no object of a class counts, all do."""
    moved = {}
    for name, score, kind, on in told:
        if kind == "found" or (kind == mended and kind in ("place", "class")):
            moved.setdefault(on, []).append((score, name))
    averages = []
    for name in classes:
        whole = [key for key, (owner, _, hard) in objects.items() if owner == name and not hard]
        if not whole:
            continue
        events = [
            (score, True)
            for on, claims in moved.items()
            if objects[on][0] == name and not objects[on][2]
            for score in [max(claims)[0]]
        ]
        events += [
            (score, False)
            for owner, score, kind, _ in told
            if owner == name and kind in FALSE and kind != mended
        ]
        events.sort(key=lambda event: -event[0])
        right = [sum(good for _, good in events[: end + 1]) for end in range(len(events))]
        wrong = [end + 1 - right[end] for end in range(len(events))]
        left = [key for key in whole if key in counted]
        averages.append(slow_averages(right, wrong, len(left) or len(whole))[0])
    return sum(averages) / len(averages)
