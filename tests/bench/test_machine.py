"""The machine: how many threads may be asked for."""

import pytest

from mvit_deploy.bench import machine
from mvit_deploy.errors import UsageError


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processors", lambda: 4)


@pytest.mark.parametrize(
    ("words", "expected"), [("1,all", (1, 4)), ("all", (4,)), ("2, 1", (2, 1)), ("4,all,4", (4,)), ("1", (1,))]
)
def test_threads_are_numbers_or_all_each_once(words: str, expected: tuple[int, ...]) -> None:
    assert machine.read_threads(words) == expected


@pytest.mark.parametrize("words", ["", "0", "5", "-1", "1,,2", "one", "1.5", "²", "1;2"])
def test_other_threads_are_a_usage_error_that_says_how_many_there_are(words: str) -> None:
    with pytest.raises(UsageError, match="up to 4"):
        machine.read_threads(words)


def test_the_processor_has_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast: Processor 9000\n\nmodel name\t: another\n")
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    assert machine.processor_name() == "Fast: Processor 9000"

    cpuinfo.unlink()
    assert machine.processor_name()
