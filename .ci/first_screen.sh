#!/usr/bin/env bash
# The README's first screen, tried in a clean container of Debian with python3-venv, make, git and curl, as often as told; prints how long each part took.
# first_screen.sh [TIMES] [BASE]: needs an engine, and a base as .ci/base_image.py makes it. What is tried is the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."
times=${1:-1}
base=${2:-threadloom-base:ci}

image=$(docker build --quiet --network host --build-arg "BASE=$base" .ci/newcomer)
repository=$(realpath "$(git rev-parse --git-common-dir)")
for time in $(seq "$times"); do
  echo "time $time, at load $(cut -d' ' -f1-3 /proc/loadavg)"
  docker run --rm --interactive --env PYTHONUNBUFFERED=1 --volume "$repository:/repository:ro" "$image" python3 - <.ci/newcomer/first_screen.py
done
