# The exporter as a container image: `make image`.
#
# It runs as a numeric user that is not root, needs no shell, and writes nowhere but in its volume, so the root
# file system may be read-only.

# In a network without Docker Hub and PyPI:
#   docker build --build-arg REGISTRY=registry.example.com --build-arg PIP_INDEX_URL=https://pypi.example.com/simple .

ARG REGISTRY=docker.io
ARG PYTHON_IMAGE=${REGISTRY}/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# pip reads it. It is in no layer of the image, since the image does not begin with this stage.
ARG PIP_INDEX_URL=
# pip must not leave bytecode with times in it: compileall would keep it, and each build would be another image.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv /build \
 && python -m venv --without-pip /opt/octopus-exporter \
 && /build/bin/pip install --quiet --no-deps --require-hashes --requirement requirements/build.txt \
 && /build/bin/pip --python /opt/octopus-exporter/bin/python install --quiet --no-compile \
      --no-deps --require-hashes --requirement requirements/run.txt
COPY hatch_build.py pyproject.toml README.md LICENSE config.example.yaml ./
COPY deploy/systemd deploy/systemd
COPY grafana/dashboards grafana/dashboards
COPY grafana/provisioning grafana/provisioning
COPY prometheus/octopus.tmpl prometheus/settings.yaml prometheus/
COPY prometheus/templates prometheus/templates
COPY exporter exporter
# The bytecode is not checked against the sources' times, which not every builder keeps when it copies.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/octopus-exporter/bin/python install --quiet --no-compile --no-deps /wheels/*.whl \
 && /opt/octopus-exporter/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      /opt/octopus-exporter/lib \
 && mkdir /ledger
COPY deploy/healthcheck.py /opt/octopus-exporter/bin/healthcheck.py

FROM ${PYTHON_IMAGE}
# `make image` and `make release` set these.
ARG VERSION=
ARG REVISION=
ARG REPOSITORY_URL=
LABEL org.opencontainers.image.title="octopus-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the system jobs of Huawei Cloud Octopus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${REPOSITORY_URL}" \
      org.opencontainers.image.url="${REPOSITORY_URL}"
COPY --from=build /opt/octopus-exporter /opt/octopus-exporter
COPY --from=build --chown=65532:65532 /ledger /var/lib/octopus-exporter
# SQLite keeps temporary tables in files: they belong where there is room, and where it may write. Without
# MALLOC_ARENA_MAX the C library keeps memory that is free for each thread.
ENV PATH=/opt/octopus-exporter/bin:$PATH \
    MALLOC_ARENA_MAX=2 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SQLITE_TMPDIR=/var/lib/octopus-exporter
USER 65532:65532
WORKDIR /var/lib/octopus-exporter
VOLUME /var/lib/octopus-exporter
EXPOSE 10877
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "/opt/octopus-exporter/bin/healthcheck.py"]
ENTRYPOINT ["octopus-exporter"]
CMD ["run", "--config", "/etc/octopus-exporter/config.yaml"]
