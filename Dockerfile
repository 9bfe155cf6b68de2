# Two programs, two images. An image's entry point is its module, so a container's args are that program's flags.
#
#   make image                   all that k8s/overlays/local runs, with docker, podman or buildah
#   docker build --target preprocessing -t gtzan-cvae-preprocessing:0.1.0 .
#   docker build --target trainer -t gtzan-cvae-trainer:0.1.0 .
#   docker build --target trainer -t gtzan-cvae-trainer:0.1.0-cuda --build-arg REQUIREMENTS=requirements/trainer-cuda.lock .
#
# The last can use a GPU: its lock adds CUDA 12.2 and cuDNN 8.9 as wheels, which TensorFlow finds by itself. The
# node brings only the NVIDIA driver.

# Python 3.11.16 on Debian 12, the index of all architectures.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# Builds are not isolated: pip would fetch their setuptools unchecked.
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
# setuptools stays: TensorBoard imports its pkg_resources.
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
# What runs lies in /venv; the base's own pip has done its work.
RUN pip uninstall --yes --root-user-action=ignore pip setuptools wheel
# Caches go to /tmp, the one folder the pods can write. GKE mounts libcuda under /usr/local/nvidia.
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
      org.opencontainers.image.description="Folders of music to TFRecords, with Apache Beam"
COPY --from=build-preprocessing /venv /venv
ENTRYPOINT ["python", "-m", "preprocessing"]
CMD ["--help"]

FROM runtime AS trainer
LABEL org.opencontainers.image.title="gtzan-cvae-trainer" \
      org.opencontainers.image.description="A VAE trained on TFRecords of music, and the music it makes"
COPY --from=build-trainer /venv /venv
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]

# Stands in for the bucket on a cluster that has none (k8s/overlays/local).
FROM runtime AS storage-emulator
LABEL org.opencontainers.image.title="gtzan-cvae-storage-emulator" \
      org.opencontainers.image.description="Object storage on a laptop's cluster"
COPY --from=build-storage-emulator /venv /venv
ENTRYPOINT ["python", "-m", "storage_emulator"]
CMD ["--help"]
