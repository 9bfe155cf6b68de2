"""Read an overlay's settings, and refuse those that cannot work before anything is deployed: `make deploy`.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = ROOT / "k8s/overlays"
NOT_PUSHED = "sha256:" + 64 * "0"
NOT_BUILT = "-unbuilt"


def read_settings(overlay: str) -> dict[str, str]:
    """Return the settings of an overlay: what is in its settings.env and cluster.env.

    Raises:
        SystemExit: There is no such overlay (exit code 2).
    """
    names = sorted(path.parent.name for path in OVERLAYS.glob("*/settings.env"))
    if overlay not in names:
        print(f"OVERLAY must be one of: {', '.join(names)}", file=sys.stderr)
        sys.exit(2)
    settings = {}
    for name in ("settings.env", "cluster.env"):
        lines = (OVERLAYS / overlay / name).read_text().splitlines()
        settings |= dict(line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    return settings


def find_problems(overlay: str) -> list[str]:
    """Return what in an overlay's settings cannot work, each as a sentence."""
    settings = read_settings(overlay)
    problems = [f"{name} still is {value}" for name, value in settings.items() if "YOUR-" in value]
    problems += _preset_problems(settings) + _component_problems(overlay, settings)
    images = (OVERLAYS / overlay / "images/kustomization.yaml").read_text()
    if NOT_PUSHED in images:
        problems.append(f"no images have been pushed: run `make push OVERLAY={overlay}`")
    if NOT_BUILT in images:
        problems.append("no images have been built: run `make image`")
    return problems


def _preset_problems(settings: dict[str, str]) -> list[str]:
    """Return why the preset cannot be trained at this sample rate, or on so many workers and GPUs."""
    sys.path.insert(0, str(ROOT))
    from preprocessing.errors import UsageError
    from trainer.presets import check_sample_rate, find_preset

    preset, problems = settings["PRESET"], []
    try:
        config = find_preset(preset)
    except UsageError as error:
        return [f"PRESET: {error}"]
    try:
        check_sample_rate(config, int(settings["SAMPLE_RATE_HZ"]))
    except UsageError as error:
        problems.append(f"SAMPLE_RATE_HZ: {error}")
    workers, gpus = int(settings.get("WORKERS", "1")), int(settings.get("GPUS", "1"))
    batch_size = config.batch_size
    if batch_size % workers or batch_size < workers * gpus:
        fitting = [n for n in range(1, batch_size + 1) if not batch_size % n and batch_size >= n * gpus]
        advice = (
            f"WORKERS can be {', '.join(map(str, fitting))}"
            if fitting
            else f"at most {batch_size} GPUs can be used"
        )
        problems.append(
            f"the batch of PRESET {preset}, {batch_size} crops, cannot be divided among {workers} worker(s) with "
            f"{gpus} GPU(s) each: {advice}"
        )
    return problems


def _component_problems(overlay: str, settings: dict[str, str]) -> list[str]:
    lines = (OVERLAYS / overlay / "kustomization.yaml").read_text().splitlines()
    components = {
        line.split("/")[-1].split()[0] for line in lines if line.strip().startswith("- ../../components/")
    }
    problems = []
    if "cuda-cache" in components and "," in settings.get("ZONES", ""):
        problems.append(
            "ZONES has several zones, and a disk is in one: remove ../../components/cuda-cache from kustomization.yaml"
        )
    if bool(settings.get("RESERVATION")) != ("gke-reservation" in components):
        problems.append(
            "RESERVATION and ../../components/gke-reservation in kustomization.yaml belong together: set both or none"
        )
    return problems


def main() -> None:
    """Check an overlay; exit code 2 if there is a problem."""
    if len(sys.argv) != 2:
        sys.exit("usage: python3 k8s/overlay_settings.py OVERLAY")
    problems = find_problems(sys.argv[1])
    for problem in problems:
        print(f"overlays/{sys.argv[1]}: {problem}", file=sys.stderr)
    sys.exit(2 if problems else 0)


if __name__ == "__main__":
    main()
