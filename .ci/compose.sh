#!/usr/bin/env bash
# Gives the docker command Compose and buildx: Debian trixie's packages, unpacked beside it and not installed. Where they are there is nothing to do.
set -euo pipefail

PLUGINS=${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins
TRIES=4

say() { echo "compose: $*" >&2; }

are_there() { docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1; }

finish() {
  say "$(docker compose version), $(docker buildx version | cut -d' ' -f2)"
  exit 0
}

mirror() { # the one that this machine uses
  sed -n 's/^URIs: *//p; s/^deb .*\(http[^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    grep -m 1 '/debian/*$'
}

fetch() { # fetch FOLDER: trixie's packages in it, from lists of its own
  local options=(-qq -o Dir::Etc::sourcelist="$1/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$1/lists" -o Dir::Cache="$1/cache"
    -o APT::Sandbox::User=root -o Acquire::Languages=none)
  mkdir -p "$1"/{lists/partial,cache/archives/partial}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$1/sources.list"
  apt-get "${options[@]}" update && (cd "$1" && apt-get "${options[@]}" download docker-compose docker-buildx)
}

are_there && finish
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for try in $(seq $TRIES); do
  fetch "$folder" && break
  [ "$try" != $TRIES ] || { say "trixie's packages cannot be had"; exit 69; }
  sleep $((3 * try))
done
for package in "$folder"/*.deb; do
  dpkg -x "$package" "$folder/unpacked"
done
mkdir -p "$PLUGINS"
install -m 755 "$folder"/unpacked/usr/libexec/docker/cli-plugins/* "$PLUGINS/"
are_there || { say "the plugins do not run"; exit 69; }
finish
