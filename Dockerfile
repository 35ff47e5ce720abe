# Threadloom: the API, the worker and the sandbox runner are one image. Old builders build it too: no heredocs, mounts or --chmod.
ARG BASE=python:3.12-slim
FROM ${BASE} AS packages

# Every package at its locked version and hash; a wheel for each of amd64 and arm64 exists, so that nothing is compiled.
COPY requirements.lock /build/
RUN python3 -m venv --without-pip /opt/threadloom \
    && python3 -m pip --python /opt/threadloom/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r /build/requirements.lock

FROM packages AS program
COPY pyproject.toml README.md LICENSE NOTICE /build/
COPY src /build/src
COPY migrations /build/migrations
RUN python3 -m pip --python /opt/threadloom/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --prefix /opt/program /build

FROM ${BASE}
RUN groupadd --gid 10001 threadloom \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin threadloom \
    && install -d /etc/threadloom \
    && install -d -o 10001 -g 10001 -m 0700 /data /run/threadloom

# Two layers: an upgrade that changes no package fetches the small one only.
COPY --from=packages /opt/threadloom /opt/threadloom
COPY --from=program /opt/program /opt/threadloom

# The root file system may be read-only: what is written is in /data, and what may be lost in /tmp.
ENV PATH=/opt/threadloom/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    THREADLOOM_DATA_DIR=/data \
    THREADLOOM_SERVER__HOST=0.0.0.0
USER 10001:10001
# `config.yaml` is looked for here.
WORKDIR /etc/threadloom
EXPOSE 8484
HEALTHCHECK --interval=15s --timeout=30s --start-period=1m --retries=4 CMD ["threadloom", "healthcheck"]
ENTRYPOINT ["threadloom"]
CMD ["serve"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Threadloom" \
      org.opencontainers.image.description="A self-hosted server that speaks OpenAI's Assistants API (v2)" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
