# One image with both programs; a container's args choose: `preprocessing --input ...` or `trainer train ...`.
#
#   docker build -t gtzan-cvae:0.1.0 .
#   docker build -t gtzan-cvae:0.1.0-cuda --build-arg REQUIREMENTS=requirements-cuda.lock .
#
# The second can use a GPU: its lock adds CUDA 12.2 and cuDNN 8.9 as wheels, which TensorFlow finds by itself.
# The node brings only the NVIDIA driver.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG REQUIREMENTS=requirements.lock
WORKDIR /src
RUN python -m venv --without-pip /venv
COPY ${REQUIREMENTS} ./
RUN pip --python /venv install --no-cache-dir --no-deps --require-hashes -r ${REQUIREMENTS}
COPY setup.py pyproject.toml ./
COPY preprocessing preprocessing
COPY trainer trainer
# Built with the setuptools of the lock, not with whichever an isolated build would download.
RUN pip --python /venv install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE}
LABEL org.opencontainers.image.title="gtzan-cvae" \
      org.opencontainers.image.description="Music to TFRecords, a VAE trained on them, new music" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /venv /venv
# Caches go to /tmp, the one folder the pods can write. GKE mounts libcuda under /usr/local/nvidia.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["python", "-m"]
CMD ["trainer", "--help"]
