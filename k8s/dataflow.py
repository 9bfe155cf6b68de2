"""Preprocess on Dataflow, with the settings of an overlay: `make submit-preprocessing OVERLAY=gke-gpu`."""

from __future__ import annotations

import os
import shlex
import sys

from overlay_settings import OVERLAYS, ROOT, read_settings


def command(overlay: str, flags: list[str]) -> list[str]:
    """Return the arguments of the preprocessing; `flags` follow the others, and so override them.

    Raises:
        SystemExit: The overlay has no settings for Dataflow, or no worker image has been pushed (exit code 2).
    """
    settings = read_settings(overlay)
    if "DATAFLOW_SUBNETWORK" not in settings:
        fail(f"overlays/{overlay} has no settings for Dataflow: use gke-gpu or gke-multiworker")
    if unset := [f"{name} still is {value}" for name, value in settings.items() if "YOUR-" in value]:
        fail(f"overlays/{overlay}: {'; '.join(unset)}")
    pushed = OVERLAYS / overlay / "images/beam-worker"
    if not pushed.exists():
        fail(f"no worker image has been pushed: run `make push OVERLAY={overlay}`")
    project, bucket = settings["PROJECT"], settings["BUCKET"]
    return [
        f"--input={settings['MUSIC']}",
        f"--output=gs://{bucket}/datasets",
        "--versioned",
        f"--sample-rate-hz={settings['SAMPLE_RATE_HZ']}",
        "--runner=DataflowRunner",
        f"--project={project}",
        f"--region={settings['REGION']}",
        f"--temp_location=gs://{bucket}/tmp",
        f"--service_account_email=gtzan-dataflow@{project}.iam.gserviceaccount.com",
        f"--subnetwork={settings['DATAFLOW_SUBNETWORK']}",
        "--no_use_public_ips",
        "--autoscaling_algorithm=THROUGHPUT_BASED",
        f"--max_num_workers={settings['DATAFLOW_MAX_WORKERS']}",
        f"--sdk_container_image={pushed.read_text().strip()}",
        "--sdk_location=container",  # the image has Beam: nothing is installed on a worker
        *flags,
    ]


def fail(sentence: str) -> None:
    """Print an error and exit with code 2."""
    print(f"submit-preprocessing: {sentence}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Run the preprocessing, in place of this process."""
    if len(sys.argv) < 2:
        fail("usage: python k8s/dataflow.py OVERLAY [FLAG ...]")
    arguments = ["-m", "preprocessing", *command(sys.argv[1], sys.argv[2:])]
    print(f"python {shlex.join(arguments)}", flush=True)
    os.chdir(ROOT)
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main()
