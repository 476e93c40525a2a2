"""Slow formulas of metrics of members, one member, component or box at a time."""

import numpy as np


def obuchowski(scores, ood, image, others=None):
    """AUROC and its variance, or its covariance with that of other scores: Obuchowski 1997, sec. 2.

    Every pair is compared.
    """
    area, caught, passed = _components(scores, ood, image)
    _, caught2, passed2 = _components(scores if others is None else others, ood, image)
    with_ood = len(set(image[ood == 1]))
    with_id = len(set(image[ood == 0]))
    number = len(caught)
    m, n = (ood == 1).sum(), (ood == 0).sum()
    s10 = sum(a * b for a, b in zip(caught, caught2, strict=True)) * with_ood / ((with_ood - 1) * m)
    s01 = sum(a * b for a, b in zip(passed, passed2, strict=True)) * with_id / ((with_id - 1) * n)
    s11 = sum(a * b for a, b in zip(caught, passed2, strict=True)) * number / (number - 1)
    s11 += sum(a * b for a, b in zip(caught2, passed, strict=True)) * number / (number - 1)
    return area, s10 / m + s01 / n + s11 / (m * n)


def _components(scores, ood, image):
    """AUROC, and for each image the sums of its structural components less their means."""
    ids, oods = scores[ood == 0], scores[ood == 1]

    def beats(one, other):
        return 1.0 if one > other else 0.5 if one == other else 0.0

    v10 = np.array([np.mean([beats(x, y) for y in ids]) for x in oods])
    v01 = np.array([np.mean([beats(x, y) for x in oods]) for y in ids])
    area = v10.mean()
    images = np.unique(image[ood != 255])
    return (
        area,
        [(v10[image[ood == 1] == one] - area).sum() for one in images],
        [(v01[image[ood == 0] == one] - area).sum() for one in images],
    )


def effective_members(scores, image):
    """Kish 1965 with the correlation of the analysis of variance of midranks, image by image."""
    ranks = np.array([np.mean((scores < x) + (scores == x) / 2) for x in scores])
    groups = [ranks[image == one] for one in np.unique(image)]
    m, k = len(scores), len(groups)
    mean = ranks.mean()
    between = sum(len(one) * (one.mean() - mean) ** 2 for one in groups) / (k - 1)
    within = sum(((one - one.mean()) ** 2).sum() for one in groups) / (m - k)
    typical = (m - sum(len(one) ** 2 for one in groups) / m) / (k - 1)
    rho = (between - within) / (between + (typical - 1) * within)
    rho = min(max(rho, 0), 1)
    return m**2 / sum(len(one) * (1 + (len(one) - 1) * rho) for one in groups)


def iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def match_boxes(boxes, objects, least=0.5):
    """ood of each box: objects are (box, label, ood)."""
    values = []
    for box in boxes:
        best, value = 0.0, 255
        for other, _, ood in objects:
            if iou(box, other) >= least and iou(box, other) > best:
                best, value = iou(box, other), ood
        values.append(value)
    return values


def taken(detections, objects, least):
    """Which detections (box, label, confidence, unknown) of an image are right."""
    free, right = list(range(len(objects))), [False] * len(detections)
    for row in sorted(range(len(detections)), key=lambda row: (-detections[row][2], row)):
        box, label, _, unknown = detections[row]
        fits = [
            (-iou(box, objects[n][0]), n)
            for n in free
            if (objects[n][2] == 1 if unknown else objects[n][1:] == (label, 0))
        ]
        if fits and -min(fits)[0] >= least:
            right[row] = True
            free.remove(min(fits)[1])
    return right


def open_set(images, least=0.5, level=0.8):
    """WI, AOSE, nOSE, AP, precision and recall of unknown objects, one detection at a time."""
    rows = []  # (confidence, place, label, unknown, right, open-set error)
    for detections, objects in images:
        right = taken(detections, objects, least)
        shown = match_boxes([box for box, *_ in detections], objects, least)
        for detection, hit, ood in zip(detections, right, shown, strict=True):
            box, label, confidence, unknown = detection
            near = [other for other in objects if iou(box, other[0]) >= least]
            if not hit and near and ood == 255:
                continue
            error = not unknown and not hit and ood == 1
            rows.append((-confidence, len(rows), label, unknown, hit, error))
    rows.sort()
    everything = [one for _, objects in images for one in objects]
    unknowns = sum(one[2] == 1 for one in everything)
    aose = sum(row[5] for row in rows)
    fp_open = tp_fp_closed = 0
    for label in {one[1] for one in everything if one[2] == 0}:
        own = [row for row in rows if row[2] == label and not row[3]]
        total = sum(one[1:] == (label, 0) for one in everything)
        cuts = range(1, len(own) + 1)
        gaps = [(abs(sum(row[4] for row in own[:cut]) / total - level), cut) for cut in cuts]
        if gaps:
            cut = min(gaps)[1]
            fp_open += sum(row[5] for row in own[:cut])
            tp_fp_closed += sum(not row[5] for row in own[:cut])
    hits = [row[4] for row in rows if row[3]]
    nan = float("nan")
    area = 0.0
    for step in range(1, sum(hits) + 1):  # recall step / unknowns
        area += max(sum(hits[:n]) / n for n in range(1, len(hits) + 1) if sum(hits[:n]) >= step)
    return {
        "wilderness_impact": fp_open / tp_fp_closed if tp_fp_closed else nan,
        "aose": aose,
        "nose": aose / unknowns if unknowns else nan,
        "ap_unknown": area / unknowns if unknowns else nan,
        "precision_unknown": sum(hits) / len(hits) if hits else nan,
        "recall_unknown": sum(hits) / unknowns if unknowns else nan,
        "n_unknown": unknowns,
    }


def connected(pixels):
    """8-connected components of a set of (row, column), as sets."""
    rest, parts = set(pixels), []
    while rest:
        part, edge = set(), {min(rest)}
        while edge:
            part |= edge
            edge = {
                (r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)
            } & rest - part
        parts.append(part)
        rest -= part
    return parts


def components(scores, ood, threshold, min_predicted=1, min_true=1):
    """sIoU of true and PPV of predicted components: Chan et al. 2021, sec. 4, with sets."""
    places = [(r, c) for r in range(scores.shape[0]) for c in range(scores.shape[1])]
    true = connected(z for z in places if ood[z] == 1)
    predicted = connected(z for z in places if ood[z] != 255 and scores[z] >= threshold)
    predicted = [part for part in predicted if len(part) >= min_predicted]
    dropped = set().union(*(part for part in true if len(part) < min_true))
    true = [part for part in true if len(part) >= min_true]
    predicted = [part - dropped for part in predicted if part - dropped]
    siou, ppv = [], []
    for k in true:
        met = set().union(*(part for part in predicted if part & k))
        others = set().union(*(part for part in true if part is not k))
        siou.append(len(k & met) / len((k | met) - others))
    for part in predicted:
        met = set().union(*(k for k in true if k & part))
        ppv.append(len(part & met) / len(part))
    return siou, ppv


def mean_f1(siou, ppv):
    values = []
    for step in range(25, 80, 5):
        tp = sum(one > step / 100 for one in siou)
        fn, fp = len(siou) - tp, sum(one <= step / 100 for one in ppv)
        values.append(2 * tp / (2 * tp + fn + fp) if tp + fn + fp else float("nan"))
    return sum(values) / len(values)
