"""`pytest --mvit-parity DIR`: every shipped file below a folder is a test, which passes when mvit_deploy.verify does.

Without the option nothing is imported and nothing is collected.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mvit_deploy

SUFFIXES = (".onnx", ".tflite", ".mlpackage", ".mlmodel")
REPORT, FAILED = ".report.json", ".failed.json"  # beside a file; beside the name of one that was refused
NEEDS_FOLDER = ("weights", "verify_images", "allow_unverified")
NUMBERS = ("max_abs", "rel_max", "sqnr_db", "cosine", "top1_agreement")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mvit", "mvit-deploy: shipped files as tests")
    group.addoption("--mvit-parity", metavar="DIR", help="judge every shipped file below DIR against PyTorch")
    group.addoption("--mvit-weights", metavar="PATH", help="the reference, instead of the one that reports name")
    group.addoption("--mvit-verify-images", metavar="DIR", help="real images that join the built-in ones")
    group.addoption(
        "--mvit-allow-unverified", action="store_true", help="skip files that cannot be run here, else they fail"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Collect the folder beside the arguments of the command line, or alone where there are none.

    Raises: pytest.UsageError for a folder that is missing or holds no shipped file, and for options without it.
    """
    if config.option.mvit_parity is None:
        useless = [name for name in NEEDS_FOLDER if getattr(config.option, f"mvit_{name}")]
        if useless:
            raise pytest.UsageError(f"--mvit-{useless[0].replace('_', '-')} needs --mvit-parity DIR")
        return
    folder = Path(config.option.mvit_parity).resolve()
    if not folder.is_dir():
        raise pytest.UsageError(f"--mvit-parity {config.option.mvit_parity}: there is no such folder")
    if not any(shipped_below(folder)):
        raise pytest.UsageError(
            f"--mvit-parity {config.option.mvit_parity}: no shipped file below it ({', '.join(SUFFIXES)})"
        )
    config.option.mvit_parity = str(folder)
    given = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    is_given = any(Path(argument).resolve() == folder for argument in given)
    config.args = [*given] if is_given else [*given, str(folder)]


def shipped_below(folder: Path) -> Iterator[Path]:
    """Every shipped file below a folder, and every one that a report names and that is not there, in a fixed order.

    A package is one file, whatever is in it; hidden folders hold unfinished exports.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES:
            yield path
        elif path.is_dir() and not path.name.startswith("."):
            yield from shipped_below(path)
        elif path.name.endswith((REPORT, FAILED)):
            described = path.with_name(path.name.removesuffix(REPORT).removesuffix(FAILED))
            if described.suffix in SUFFIXES and not described.exists():
                yield path


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if parent.config.option.mvit_parity != str(path):
        return None
    return ParityFolder.from_parent(parent, path=path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Raises: pytest.UsageError where another argument or setting kept the folder from being collected."""
    if config.option.mvit_parity and not any(isinstance(item, ParityItem) for item in items):
        raise pytest.UsageError(f"--mvit-parity {config.option.mvit_parity}: nothing of it was collected")


class ParityFolder(pytest.Directory):
    """The folder of --mvit-parity. Its tests are its shipped files alone, at any depth."""

    def collect(self) -> Iterator[pytest.Item]:
        for path in shipped_below(self.path):
            yield ParityItem.from_parent(self, name=path.relative_to(self.path).as_posix(), path=path)


class Unequal(Exception):
    """A file that does not compute what PyTorch computes, or that cannot be judged."""


class ParityItem(pytest.Item):
    """One shipped file."""

    def runtest(self) -> None:
        if self.path.name.endswith(FAILED):
            raise Unequal(f"{self.path}: the export was refused; the file was not written")
        option = self.config.option
        (found,) = mvit_deploy.verify(
            self.path,
            weights=option.mvit_weights,
            verify_images=option.mvit_verify_images,
            allow_unverified=option.mvit_allow_unverified,
        )
        if found.exit_code:
            raise Unequal(describe(found))
        if found.verdict != "match":
            pytest.skip(f"{self.path.name} was not judged: {found.reason}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> object:
        """The reason and the numbers alone for what a file or a user can cause; a traceback for what is our fault."""
        if excinfo.errisinstance((Unequal, mvit_deploy.MvitError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, f"parity of {self.name}"


def describe(found: "mvit_deploy.Report") -> str:
    """Verdict, reason and the numbers of each output, a line each."""
    verification = found.content["verification"]
    lines = [f"{found.path}: {found.verdict.replace('_', ' ')}", f"  {found.reason}"]
    for output in verification.get("outputs") or ():
        numbers = [f"{name} {output[name]:.4g}" for name in NUMBERS if isinstance(output.get(name), int | float)]
        lines.append(f"  {output['name']}: {', '.join(numbers) or 'no numbers'}")
    runtime = verification.get("runtime")
    if runtime:
        lines.append(f"  judged by {runtime['name']} {runtime['version']}")
    return "\n".join(lines)
