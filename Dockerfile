# One image per program. The entry point is the program's module, so a container's args are the program's flags.
#
#   make image                   all images for k8s/overlays/local, with docker, podman or buildah
#   make push OVERLAY=gke-gpu    the images of a GKE overlay, pushed to its project's repository
#   docker build --target preprocessing -t gtzan-cvae-preprocessing .
#   docker build --target trainer -t gtzan-cvae-trainer .
#   docker build --target trainer -t gtzan-cvae-trainer:cuda --build-arg REQUIREMENTS=requirements/trainer-cuda.lock .
#
# The last image can use a GPU: its lock file adds CUDA 12.2 and cuDNN 8.9 as wheels, which TensorFlow finds by itself.
# The node provides only the NVIDIA driver, version 525.60.13 or newer.

# Python 3.11.16 on Debian 12; the digest of the multi-architecture index.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# Of Apache Beam's own image, only the program that starts a worker is used. Its version is that of the lock file.
ARG BEAM_SDK=docker.io/apache/beam_python3.11_sdk:2.72.0

FROM ${BEAM_SDK} AS beam-sdk

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# Build isolation is off, because pip would download an unverified setuptools for it.
COPY requirements/build.lock requirements/
RUN python -m venv --without-pip /venv \
    && pip --python /venv install --no-deps --require-hashes -r requirements/build.lock

FROM build AS build-preprocessing
COPY requirements/preprocessing.lock requirements/
RUN pip --python /venv install --no-deps --no-build-isolation --use-pep517 --require-hashes \
    -r requirements/preprocessing.lock
COPY setup.py pyproject.toml ./
COPY preprocessing preprocessing
COPY trainer trainer
RUN pip --python /venv install --no-deps --no-build-isolation --use-pep517 . \
    && pip --python /venv uninstall --yes setuptools

FROM build AS build-trainer
ARG REQUIREMENTS=requirements/trainer.lock
COPY ${REQUIREMENTS} requirements/
RUN pip --python /venv install --no-deps --no-build-isolation --use-pep517 --require-hashes -r ${REQUIREMENTS}
COPY setup.py pyproject.toml ./
COPY preprocessing preprocessing
COPY trainer trainer
# Keep setuptools: TensorBoard imports its pkg_resources.
RUN pip --python /venv install --no-deps --no-build-isolation --use-pep517 .

FROM build AS build-storage-emulator
COPY requirements/emulator.lock requirements/
RUN pip --python /venv install --no-deps --require-hashes -r requirements/emulator.lock \
    && pip --python /venv uninstall --yes setuptools
COPY k8s/emulator/storage_emulator.py /venv/lib/python3.11/site-packages/

FROM ${BASE} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Everything that runs is in /venv; the base image's own pip is not needed.
RUN pip uninstall --yes --root-user-action=ignore pip setuptools wheel
# Caches go to /tmp, the only writable directory of the pods. GKE mounts libcuda under /usr/local/nvidia.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
USER 10001:10001
WORKDIR /tmp

FROM runtime AS preprocessing
LABEL org.opencontainers.image.title="gtzan-cvae-preprocessing" \
      org.opencontainers.image.description="Converts folders of music to TFRecords with Apache Beam"
COPY --from=build-preprocessing /venv /venv
ENTRYPOINT ["python", "-m", "preprocessing"]
CMD ["--help"]

# Preprocessing as a worker of Dataflow, Flink or Spark (--sdk_container_image): the runner starts Beam's entry point.
FROM preprocessing AS beam-worker
LABEL org.opencontainers.image.title="gtzan-cvae-beam-worker" \
      org.opencontainers.image.description="A worker of the preprocessing on a distributed runner"
COPY --from=beam-sdk /opt/apache/beam /opt/apache/beam
# The image has all packages: the entry point installs none. It runs as root, because it writes to a folder that the
# runner mounts, which belongs to root.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# hadolint ignore=DL3002
USER 0:0
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []

FROM runtime AS trainer
LABEL org.opencontainers.image.title="gtzan-cvae-trainer" \
      org.opencontainers.image.description="Trains a VAE on TFRecords of music and generates music with it"
COPY --from=build-trainer /venv /venv
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]

# Replaces the bucket on a cluster without object storage (k8s/overlays/local).
FROM runtime AS storage-emulator
LABEL org.opencontainers.image.title="gtzan-cvae-storage-emulator" \
      org.opencontainers.image.description="Object storage for a cluster on a laptop"
COPY --from=build-storage-emulator /venv /venv
ENTRYPOINT ["python", "-m", "storage_emulator"]
CMD ["--help"]
