"""What stands on a page: every file with its verdict, each part that there is something for, nothing else."""

import re

import pytest

from mvit_deploy.html import render
from tests.html.made import LINT, PIXEL, Page, gallery, quantized, report, stage_errors, timing

PARTS = ["verdicts", "pictures", "stages", "quantization", "operators", "costs", "claims"]
CLAIMS = [
    {"claim": "sha256 of the file", "holds": True, "detail": ""},
    {"claim": "rel_max of logits", "holds": False, "detail": "3e-3 > 1e-4"},
    {"claim": "int8 of the file", "holds": None, "detail": "onnx is not here"},
]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"


def whole() -> str:
    """A page with every part."""
    float_one = report(artifact={"lint": LINT}, verification={"claims": CLAIMS})
    path = str(float_one.path)
    return render([float_one, quantized()], galleries=[gallery(path)], stages=[stage_errors(path)], timing=timing(path))


def test_every_part_is_there_in_its_order_and_well_formed() -> None:
    assert Page(whole()).sections == PARTS


def test_a_part_for_which_there_is_nothing_is_left_out() -> None:
    page = Page(render([report(artifact={"size_bytes": None})]))

    assert page.sections == ["verdicts"]


def test_a_run_without_integers_has_no_plan() -> None:
    assert "quantization" not in Page(render([report()])).sections


def test_every_file_has_its_verdict_numbers_judge_and_floors() -> None:
    evaluator = {"name": "program evaluator, not Apple's runtime", "version": "0.1.0", "kind": "evaluator"}
    results = [
        report("out/a.onnx"),
        report("out/b.mlpackage", verdict="mismatch", verification={"runtime": evaluator, "verdict": "mismatch"}),
        report("out/c.tflite", verdict="not_run", verification={"verdict": "not_run", "outputs": [], "tolerance": {}}),
        report("out/d.tflite", code=6),
    ]
    text = Page(render(results)).text

    assert all(name in text for name in ("a.onnx", "b.mlpackage", "c.tflite", "d.tflite"))
    assert all(verdict in text for verdict in ("✓ match", "✗ mismatch", "✗ failed", "? not run"))
    assert "Of 4 files 1 matches PyTorch, 1 does not match, 1 could not be made and 1 was not judged." in text
    assert "5.24 MB 1.2e-06 113.9 112.9 100.0% 5.0e-12 onnxruntime 1.23.0" in text
    assert "rel_max ≤ 1e-04 (each input); SQNR ≥ 80 dB (each input)" in text
    assert "program evaluator, not Apple's runtime rel_max" in text  # without this tool's own version
    assert "nobody here" in text


def test_numbers_without_a_floor_say_so() -> None:
    text = Page(render([report(verification={"tolerance": {}})])).text

    assert "none, numbers are reported only" in text


def test_floors_of_integers_say_from_how_many_photos_on_they_hold() -> None:
    floors = {"sqnr_db_photos": 20.0, "top1_agreement_photos": 0.95, "top1_agreement_least_photos": 100}
    text = Page(render([report(verification={"tolerance": floors})])).text

    assert "SQNR ≥ 20 dB (photos); top-1 same ≥ 95.0% (photos) from 100 photos on" in text


def test_a_failure_is_told_in_full() -> None:
    location = {
        "first_stage": "layer_3",
        "first_operation": {"line": 41, "type": "Softmax", "outputs": ["/attention/Softmax"]},
        "stages": [{"stage": "stem", "rel_max": 1e-7}, {"stage": "layer_3", "rel_max": 0.4}],
    }
    finding = {"severity": "fault", "line": 12, "operation": "rsqrt", "value": "x_7", "detail": "eps is lost"}
    reason = "cat.jpg: rel_max 0.4 > 0.0001; photos: sqnr_db 8 < 80"
    page = Page(
        render(
            [
                report("out/good.onnx"),
                report(
                    "out/bad.onnx",
                    verdict="mismatch",
                    verification={
                        "verdict": "mismatch",
                        "reason": reason,
                        "location": location,
                        "fp16_audit": {"findings": [finding]},
                    },
                ),
            ]
        )
    )

    assert reason in page.text
    assert "Leaves PyTorch in stage layer_3, first in line 41: Softmax /attention/Softmax." in page.text
    assert "The input with the largest error is cat.jpg." in page.text
    assert "fault : line 12, rsqrt x_7: eps is lost" in page.text
    assert "✗ mismatch Of 2 files" in page.text


def test_the_model_its_weights_and_what_made_it_stand_at_the_top() -> None:
    about = {"author": "Ann", "license": "MIT", "version": "3.1"}
    declared = report().content["artifact"]["declared"] | {"about": about}
    text = Page(render([report(artifact={"declared": declared})])).text

    for said in (
        "MobileViT xxs",
        "classification, ends in logits",
        "flowers.pth",
        "cd" * 32,
        "1,272,024",
        "32,284,160",
        "64×96 pixels (height×width), RGB, values 0 to 1",
        "short side resized to 288, centre 256×256 cropped, bilinear, RGB",
        "2, 2 labels in the files",
        "Ann",
        "MIT",
        "3.1",
        "mvit-export --mode xxs --target onnx",
        "2026-11-28T01:38:05+00:00",
        "python 3.11.7, torch 2.13.0",
    ):
        assert said in text


def test_random_weights_are_called_that() -> None:
    text = Page(render([report(model={"weights": {"source": "random", "sha256": "00", "seed": 7}})])).text

    assert "random, seed 7: predictions mean nothing" in text


def test_a_page_refers_to_nothing_outside_itself() -> None:
    text = whole()
    page = Page(text)

    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<iframe|javascript:|xlink|xmlns", text)
    links = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert links == [PIXEL]
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none';")
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def test_text_from_outside_is_escaped_everywhere() -> None:
    """Labels, names of files, authors, reasons and claims are whatever somebody wrote."""
    path = f"out/{HOSTILE}.onnx"
    declared = {"about": {"author": HOSTILE, "license": HOSTILE, "version": HOSTILE}, "preprocessing": None}
    lint = LINT | {"operators": {HOSTILE: 1}, "findings": [LINT["findings"][0] | {"text": HOSTILE, "source": HOSTILE}]}
    result = report(
        path,
        verdict="mismatch",
        command=HOSTILE,
        artifact={"declared": declared, "lint": lint, "precision": HOSTILE},
        model={"mode": HOSTILE, "weights": {"source": HOSTILE, "sha256": HOSTILE}},
        verification={"verdict": "mismatch", "reason": HOSTILE, "claims": [{"claim": HOSTILE, "detail": HOSTILE}]},
        tools={HOSTILE: HOSTILE},
    )
    text = render(
        [result],
        galleries=[gallery(str(result.path), label=HOSTILE)],
        stages=[stage_errors(str(result.path))],
        timing=timing(str(result.path)),
    )
    page = Page(text)

    assert page.count("script") == 0
    assert [a for tag, a in page.elements if tag == "img" and a["src"] != PIXEL] == []
    assert page.joined.count("".join(HOSTILE.split())) >= 12  # and is there as text, as it was written
    assert "onerror" not in [key for _, attributes in page.elements for key in attributes]


def test_values_of_unexpected_types_are_shown_and_never_computed_with() -> None:
    """A report beside a file may have been edited; it must not keep the page from being made."""
    odd = report(
        artifact={"size_bytes": "large", "inputs": "none", "labels": 5, "declared": [], "lint": {"operators": []}},
        model={"parameters": "many", "macs": [1], "image_size": "big", "weights": "mine", "normalization": "?"},
        verification={"tolerance": {"sqnr_db_photos": "high", "new_floor": 3}, "claims": ["well"], "labels": "no"},
        tools=[],
    )
    text = Page(render([odd, report("out/x.onnx", model={}), report("y.onnx", artifact={"int8": None})])).text

    assert "many" in text
    assert "SQNR ≥ high (photos); new_floor 3" in text


def test_a_path_that_is_not_utf_8_can_be_written() -> None:
    """Python holds its bytes as lone surrogates, which no file in UTF-8 takes."""
    text = render([report("out/caf\udce9.onnx")])

    assert "caf\\udce9" in text
    text.encode("utf-8")


def test_the_same_reports_give_the_same_page() -> None:
    assert whole() == whole()


def test_answers_that_differ_are_marked_in_words_and_counted() -> None:
    path = str(report().path)
    differing = Page(render([report()], galleries=[gallery(path, label="daisy", same=False)]))
    agreeing = Page(render([report()], galleries=[gallery(path)]))

    assert "1 of 1 answers shown differs from PyTorch's." in differing.text
    assert "≠ differs daisy 88.8%" in differing.text
    assert "The one answer shown is PyTorch's." in agreeing.text
    assert "rose 93.1%" in agreeing.text
    assert "≠" not in agreeing.text


def test_pictures_tables_and_charts_are_described_for_those_who_do_not_see_them() -> None:
    page = Page(whole())

    assert all(a.get("alt") for tag, a in page.elements if tag == "img")
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    assert all(a.get("role") != "img" or a.get("aria-label") for tag, a in page.elements if tag == "svg")
    assert next(a for tag, a in page.elements if tag == "html")["lang"] == "en"


def test_tables_and_charts_scroll_inside_a_container_of_their_own() -> None:
    text = whole()

    assert text.count("<table") == len(re.findall(r'<div class="scroll"[^>]*>\s*<table', text))
    assert text.count('<svg role="img"') == len(re.findall(r'<div class="scroll"[^>]*>\s*<svg role="img"', text))


def test_the_page_is_for_light_and_dark_and_for_paper() -> None:
    text = whole()

    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert "svg text { fill: currentColor" in text


def test_errors_by_stage_are_numbers_with_shades() -> None:
    first = report()
    text = render([first], stages=[stage_errors(str(first.path))])

    assert '<td class="n h0">1.0e-08</td>' in text
    assert '<td class="n h6">1.0e-01</td>' in text
    assert "The largest is 1.0e-01, of net_fp32.onnx in head." in text


def test_a_stage_that_cannot_be_told_says_so() -> None:
    first = report()
    found = stage_errors(str(first.path))
    hidden = type(found)(found.path, (*found.stages[:-1], ("head", None)))

    assert "not told" in Page(render([first], stages=[hidden])).text


def test_the_plan_shows_what_is_int8_the_chosen_point_and_the_worst_layer() -> None:
    page = Page(render([quantized()]))

    assert "w8a8 45.0% 54.0% operators of the file 27 dB met 1, by search" in page.text
    # 4 of 32.28 million multiply-accumulates are 12.4 %.
    assert "The chosen plan keeps 12.4 % in float and gives 30.2 dB." in page.text
    assert "1 12.39% 3.000 31.0 30.2 98.0% chosen" in page.text
    assert "The worst is backbone.stem.0 with 12.0 dB." in " ".join(
        a["aria-label"] for tag, a in page.elements if tag == "svg" and "aria-label" in a
    )


def test_operators_are_counted_and_each_rule_cites_its_document() -> None:
    text = Page(render([report(artifact={"lint": LINT})])).text

    assert "32 4 6 25.0% TFLite GPU delegate: 30 of 32 (93.8%) (gpu-operator)" in text
    assert "GATHER (operator 7): rank 5" in text
    assert "Source: GPU delegates for LiteRT, ai.google.dev/edge/litert/performance/gpu" in text


def test_a_file_that_could_not_be_linted_says_why() -> None:
    text = Page(render([report(artifact={"lint": {"reason": "onnx is not installed"}})])).text

    assert "onnx is not installed" in text


def test_broken_claims_are_counted_and_shown() -> None:
    text = Page(render([report(verification={"claims": CLAIMS})])).text

    assert "1 of 3 claims no longer hold" in text
    assert "rel_max of logits ✗ no 3e-3 > 1e-4" in text
    assert "int8 of the file ? not checked onnx is not here" in text


def test_a_short_measurement_says_that_it_is_one_and_where() -> None:
    path = str(report().path)
    text = Page(render([report()], timing=timing(path))).text

    assert "2.50 ms (2.25 to 3.00, n = 25)" in text
    assert "A short measurement: 5 interleaved rounds, 1 thread" in text
    assert "On A processor: a phone's times differ" in text
    assert "Core ML files are not timed." in text


@pytest.mark.parametrize("count", [1, 3])
def test_files_that_all_match_are_said_in_one_sentence(count: int) -> None:
    text = Page(render([report(f"out/{n}.onnx") for n in range(count)])).text

    assert ("The file matches PyTorch." if count == 1 else "All 3 files match PyTorch.") in text
