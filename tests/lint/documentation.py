"""docs/lint.md, made from the table of rules: python -m tests.lint.documentation > docs/lint.md"""

from mvit_deploy.lint.rules import RULES, Rule

_HEAD = """# Lint: what a file meets on phones

`mvit-export` and `mvit-verify` hold each file to these rules, from the file alone: no phone, no converter, nothing is
run. `--lint warn` (the default) shows errors and warnings in one line a file and writes everything to the report
(`artifact.lint`); with `--lint error` an error is a mismatch (exit 1); `--lint off` looks at nothing. From Python:
`mvit_deploy.lint.lint(path)`.

An **error** keeps the file from loading or running on that consumer in an ordinary app, a **warning** is a fall-back,
a **note** is information. A rule says what its document says, no more: Core ML decides on the device what runs where,
and drivers refuse what documents allow.
"""
_TITLES = {"tflite": "TFLite", "onnx": "ONNX", "coreml": "Core ML"}


def _row(rule: Rule) -> str:
    source = rule.source
    version = f", {source.version}" if source.version else ""
    return (
        f"| `{rule.id}` | {rule.consumer} | {rule.severity} | {rule.text} | [{source.title}]({source.url}){version} |"
    )


def document() -> str:
    """The whole page."""
    parts = [_HEAD]
    for target, title in _TITLES.items():
        rows = "\n".join(_row(rule) for rule in RULES if rule.target == target)
        parts.append(
            f"## {title}\n\n| rule | consumer | severity | what it means | source |\n|---|---|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(document(), end="")
