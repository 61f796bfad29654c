"""Which images are calibrated on, and which judge: never the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mvit_deploy import images
from mvit_deploy.errors import UsageError
from mvit_deploy.images import ImageSet
from mvit_deploy.spec import OWN, Preprocessing


@dataclass(frozen=True)
class Photos:
    """calibration: None without a folder of it; judging: None where the photos in this package have to judge."""

    calibration: ImageSet | None
    judging: ImageSet | None


def photos(
    size: tuple[int, int],
    *,
    calibration: Path | None,
    count: int | None,
    verify_images: Path | None,
    on_warning: Callable[[str], None],
    how: Preprocessing = OWN,
) -> Photos:
    """Read both folders, each image as images.prepare() gives it. Images in both are left out of those that judge;
    without verify_images every fifth calibration image judges and is not calibrated on.

    Raises: UsageError for a folder without enough readable images, or when no image is left to judge.
    """
    judging = None if verify_images is None else images.load_folder(verify_images, size, how)
    if calibration is None:
        if count is not None:
            raise UsageError("--calibration-count belongs to --calibration, which is not given")
        return Photos(None, judging)
    given = images.calibration_set(calibration, size, count=count, on_warning=on_warning, how=how)
    if judging is None:
        calibrated, judging = images.split_calibration(given)
        return Photos(calibrated, judging)
    apart = images.without(judging, given)
    left_out = len(judging.names) - len(apart.names)
    if left_out:
        on_warning(f"{left_out} verification images are also calibration images and are left out")
    return Photos(given, apart)
