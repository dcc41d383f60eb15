"""The VOC metric written out slowly, one detection at a time: the twin of ``evaluation/voc_ap``."""

import math
from itertools import accumulate


def slow_curve(rows, objects):
    """Match one detection at a time, on VOC corners with the devkit's +1.

    ``rows``: image id, score, xmin, ymin, xmax, ymax. ``objects``: image id -> rows (difficult,
    xmin, ymin, xmax, ymax). Returns running tp and fp.
    """
    claimed = set()
    tp, fp, tps, fps = 0, 0, [], []
    for image_id, _, *d in sorted(rows, key=lambda row: -row[1]):
        best, best_overlap = None, -math.inf
        for index, (_, *g) in enumerate(objects[image_id]):
            width = min(d[2], g[2]) - max(d[0], g[0]) + 1
            height = min(d[3], g[3]) - max(d[1], g[1]) + 1
            if width > 0 and height > 0:
                area = (d[2] - d[0] + 1) * (d[3] - d[1] + 1)
                union = area + (g[2] - g[0] + 1) * (g[3] - g[1] + 1) - width * height
                if width * height / union > best_overlap:
                    best, best_overlap = index, width * height / union
        if best_overlap < 0.5:
            fp += 1
        elif not objects[image_id][best][0]:
            if (image_id, best) in claimed:
                fp += 1
            else:
                tp += 1
                claimed.add((image_id, best))
        tps.append(tp)
        fps.append(fp)
    return tps, fps


def slow_averages(tps, fps, npos):
    """Return average precision at eleven recalls, and the area under the monotone precision."""
    points = [(t / npos, t / (t + f)) for t, f in zip(tps, fps, strict=True) if t + f]
    eleven = sum(max((p for r, p in points if r >= k * 0.1), default=0) for k in range(11)) / 11
    later = list(accumulate((precision for _, precision in reversed(points)), max))[::-1]
    area, last = 0.0, 0.0
    for (recall, _), best in zip(points, later, strict=True):
        area += (recall - last) * best
        last = recall
    return eleven, area


def slow_answers(rows, objects):
    """Return the answers for a class with objects that count, by the golden files' names."""
    tps, fps = slow_curve(rows, objects)
    npos = sum(not difficult for each in objects.values() for difficult, *_ in each)
    eleven, area = slow_averages(tps, fps, npos)
    counts = {"npos": npos, "ntp": (tps or [0])[-1], "nfp": (fps or [0])[-1], "ndet": len(rows)}
    return {"ap11": eleven, "ap_area": area} | counts
