"""The workflow of examples/ci: its commands and options are there, and its steps run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from mvit_deploy import pytest_plugin
from mvit_deploy.cli import export, verify
from tests.conftest import ROOT
from tests.examples.scripts import EXAMPLES

COMMANDS = {"mvit-export": export.command, "mvit-verify": verify.command}
WORKFLOW = yaml.safe_load((EXAMPLES / "ci" / "mvit.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step}
RUN_HERE = ("Export", "Judge", "Fixtures")


def words(line: str) -> list[str]:
    """A command with the workflow's values for its variables."""
    return [re.sub(r"\$(\w+)", lambda name: str(WORKFLOW["env"].get(name[1], name[0])), w) for w in shlex.split(line)]


def commands(program: str) -> list[list[str]]:
    """Arguments of every call of a program in any step."""
    lines = [line for run in STEPS.values() for line in run.splitlines()]
    return [words(line)[1:] for line in lines if line.split()[0] == program]


def parse(program: str, arguments: list[str]) -> click.Context:
    return COMMANDS[program].make_context(program, list(arguments))


@pytest.mark.parametrize("program", COMMANDS)
def test_every_option_is_one_of_the_command(program: str) -> None:
    calls = commands(program)

    assert calls
    for arguments in calls:
        parse(program, arguments)
        with pytest.raises(click.NoSuchOption):
            parse(program, ["--wights", *arguments])


def test_every_option_of_pytest_and_the_readme_is_one_of_the_plugin() -> None:
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    known = {name for group in parser._groups for option in group.options for name in option.names()}
    text = (EXAMPLES / "ci" / "README.md").read_text(encoding="utf-8")

    used = {word for call in commands("pytest") for word in call if word.startswith("--mvit")}
    assert used == {"--mvit-parity"}
    assert set(re.findall(r"--mvit[\w-]+", text)) == known


def test_every_file_that_is_named_is_there() -> None:
    for value in ("WEIGHTS", "LABELS", "PHOTO"):
        assert (ROOT / WORKFLOW["env"][value]).is_file()
    for script, *_ in commands("python"):
        assert script == "-m" or (ROOT / script).is_file()


def test_actions_are_githubs_own_and_pinned_to_a_major_version() -> None:
    used = [step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step]

    assert len(used) == 6
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)
    assert all(("run" in step) != ("uses" in step) for job in WORKFLOW["jobs"].values() for step in job["steps"])


def test_nothing_more_than_reading_is_permitted_and_no_job_runs_for_ever() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in WORKFLOW["jobs"].values())


def test_what_was_made_is_kept_even_when_it_was_refused() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["export"]["steps"] if s.get("uses", "").startswith("actions/upload")]

    assert step["if"] == "always()"
    assert step["with"]["path"].split() == ["out", "fixtures", "parity.xml"]


@pytest.mark.slow
def test_the_steps_run(tmp_path: Path) -> None:
    """Those of the first job but the installation, one after another as GitHub runs them."""
    for folder in ("examples/ci", "examples/digits", "examples/fixtures", "mvit_deploy/photos"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | WORKFLOW["env"] | {"PATH": path, "PYTHONPATH": str(ROOT)}
    for name in RUN_HERE:
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{name}: {result.stdout}{result.stderr}"

    assert len(list((tmp_path / "out").glob("*.report.json"))) == 3
    assert {p.name for p in (tmp_path / "fixtures").iterdir()} == {"android", "ios"}
    assert (tmp_path / "parity.xml").read_text().count("<testcase") == 3
