"""What one side says of a photo, in a line: of a row as a report has it."""

SAME = {"classification": "label", "detection": "boxes", "segmentation": "labels of points"}
COUNTED = {"detection": "all boxes", "segmentation": "all points"}  # what an agreement is a share of
MOST_NAMED = 3
NOTHING = "nothing"
Row = dict[str, object]  # of photo_labels.photos; see the Photo of labelling.classes, boxes and maps


def told(row: Row, side: str) -> str:
    """The answer first. side: reference or file."""
    found = row[side]
    if f"{side}_count" in row:
        return _boxes(found, row[f"{side}_count"])
    if found and "share" in found[0]:
        return ", ".join(f"{named(each)} {each['share']:.1%}" for each in found[:MOST_NAMED])
    return f"{named(found[0])} {_number(found[0]['probability'])}"


def _boxes(found: list[Row], count: int) -> str:
    """How many there are that a person would look at, and the best of them."""
    if not count:
        return NOTHING
    best = ", ".join(f"{named(each)} {each['score']:.3f}" for each in found[:MOST_NAMED])
    return f"{count}: {best}" + (", …" if count > MOST_NAMED else "")


def named(guess: Row) -> str:
    """A label, or the number of a class without one."""
    label = guess["label"]
    return f"class {label}" if isinstance(label, int) else str(label)


def _number(value: object) -> str:
    return "not finite" if value is None else f"{value:.3f}"
