"""What reports say of their models, for people."""

from collections.abc import Sequence

from mvit_deploy.html import words
from mvit_deploy.report import Report, look_up


def models(results: Sequence[Report]) -> list[dict[str, str]]:
    """The different models of some files as names and values for people."""
    found = []
    for result in results:
        model = _model(result)
        if model not in found:
            found.append(model)
    return found


def _model(result: Report) -> dict[str, str]:
    content = result.content

    def says(*keys: str) -> object:
        return look_up(content, *keys)

    weights = says("model", "weights")
    source = look_up(weights, "source")
    seed = look_up(weights, "seed")
    inputs = says("artifact", "inputs")
    takes = inputs[0] if isinstance(inputs, list | tuple) and inputs else None
    rows = {
        "Network": " ".join(
            filter(None, ["MobileViT", words.text(says("model", "mode")), _variant(says("model", "variant"))])
        ),
        "Task": ", ".join(filter(None, [words.text(says("model", "task")), _ending(content)])),
        "Weights": f"random, seed {seed}: predictions mean nothing" if source == "random" else words.text(source),
        "Weights' SHA-256": words.text(look_up(weights, "sha256")),
        "Parameters": words.number(says("model", "parameters"), ",d"),
        "Multiply-accumulates": words.number(says("model", "macs"), ",d"),
        "Image": _image(says("model", "image_size"), takes),
        "Photos are prepared": _preprocessing(content),
        "Normalization": _normalization(says("model", "normalization")),
        "Classes": _classes(content),
        "Author": words.text(says("artifact", "declared", "about", "author")),
        "Licence": words.text(says("artifact", "declared", "about", "license")),
        "Version": words.text(says("artifact", "declared", "about", "version")),
    }
    return {name: value for name, value in rows.items() if value and value != words.NOTHING}


def _variant(value: object) -> str:
    return "" if value in (None, "paper") else f"({value}'s variant)"


def _ending(content: object) -> str:
    ending, stride = look_up(content, "model", "ending"), look_up(content, "model", "output_stride")
    return ", ".join(filter(None, [words.text(ending) and f"ends in {ending}", stride and f"output stride {stride}"]))


def _image(size: object, takes: object) -> str:
    sides = "×".join(map(str, size)) if isinstance(size, list | tuple) else words.text(size)
    span, order = look_up(takes, "range"), look_up(takes, "color_order")
    ends = f"values {span[0]:g} to {span[1]:g}" if _is_pair(span) else ""
    return ", ".join(filter(None, [sides and f"{sides} pixels (height×width)", words.text(order), ends]))


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(words.is_number, value))


def _preprocessing(content: object) -> str:
    """As the file declares it."""
    how = look_up(content, "artifact", "declared", "preprocessing")
    if not isinstance(how, dict):
        return ""
    resize, crop = how.get("resize"), how.get("crop")
    if isinstance(resize, list | tuple):
        resized = f"resized to {'×'.join(map(str, resize))}"
    else:
        resized = "not resized" if resize is None else f"short side resized to {resize}"
    cropped = f"centre {'×'.join(map(str, crop))} cropped" if isinstance(crop, list | tuple) else words.text(crop)
    return ", ".join(
        filter(None, [resized, cropped, words.text(how.get("resampling")), words.text(how.get("color_order"))])
    )


def _normalization(value: object) -> str:
    if not isinstance(value, dict):
        return "none in the graph" if value is None else str(value)
    return f"in the graph: mean {_numbers(value.get('mean'))}, deviation {_numbers(value.get('std'))}"


def _numbers(values: object) -> str:
    return ", ".join(words.number(v, "g") for v in values) if isinstance(values, list | tuple) else words.text(values)


def _classes(content: object) -> str:
    count, labels = look_up(content, "model", "num_classes"), look_up(content, "artifact", "labels")
    named = f"{len(labels)} labels in the files" if isinstance(labels, list | tuple) else "no labels in the files"
    return ", ".join(filter(None, [words.text(count), named]))
