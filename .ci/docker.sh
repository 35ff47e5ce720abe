#!/usr/bin/env bash
# Makes a Docker engine answer: installs Debian's where there is none and starts it where it does not run. Once it answers there is nothing to do,
# and root is not needed. Exit code 69 means that there is none to be had; the lines above it say why.
set -euo pipefail

export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
LOG=${DOCKERD_LOG:-/var/log/threadloom-dockerd.log}
CGROUPS=/sys/fs/cgroup
NO_NETWORK="--iptables=false --ip6tables=false --bridge=none"

say() { echo "docker: $*" >&2; }

answers() { docker info >/dev/null 2>&1; }

finish() {
  say "$(docker info --format 'engine {{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}}, {{.NCPU}} processors, {{.MemTotal}} bytes of memory')"
  exit 0
}

give_up() {
  say "$*"
  exit 69
}

install_engine() {
  say "installing Debian's docker.io"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io >/dev/null
}

# A machine without systemd may have no control groups mounted, and a container with version 2 none that can be handed on.
prepare_cgroups() {
  if ! grep -q " $CGROUPS[/ ]" /proc/mounts; then
    mount_cgroups || say "cannot mount control groups: the engine will say what it lacks"
  fi
  [ ! -f $CGROUPS/cgroup.controllers ] || hand_on_controllers || say "cannot hand on control groups: limits may not hold"
}

mount_cgroups() {
  local controller
  if [ "$(awk '$2 != 0 && !/^#/' /proc/cgroups | wc -l)" = 0 ]; then # none belongs to version 1
    mount -t cgroup2 cgroup2 $CGROUPS
    return
  fi
  mount -t tmpfs -o mode=755 cgroup $CGROUPS
  for controller in $(awk '!/^#/ && $4 == 1 {print $1}' /proc/cgroups); do
    mkdir -p "$CGROUPS/$controller"
    mount -t cgroup -o "$controller" cgroup "$CGROUPS/$controller"
  done
}

hand_on_controllers() {
  local controllers process
  controllers=$(sed 's/[^ ]*/+&/g' $CGROUPS/cgroup.controllers)
  echo "$controllers" 2>/dev/null >$CGROUPS/cgroup.subtree_control && return
  # Below the machine's root, a group with processes of its own hands nothing on.
  mkdir -p $CGROUPS/init
  while read -r process; do
    echo "$process" 2>/dev/null >$CGROUPS/init/cgroup.procs || true
  done <$CGROUPS/cgroup.procs
  echo "$controllers" >$CGROUPS/cgroup.subtree_control
}

# start_engine ARGUMENTS...: true once it answers; otherwise it is gone, and its last lines are printed.
start_engine() {
  say "starting dockerd $*"
  setsid dockerd --host "$DOCKER_HOST" --log-level warn "$@" >"$LOG" 2>&1 </dev/null 9>&- &
  local daemon=$!
  for _ in $(seq 300); do
    answers && return
    kill -0 $daemon 2>/dev/null || break
    sleep 0.1
  done
  say "dockerd $* did not come up; its last lines:"
  tail -n 20 "$LOG" >&2
  kill $daemon 2>/dev/null || true
  wait $daemon || true
  return 1
}

command -v docker >/dev/null && answers && finish
[ "$(id -u)" = 0 ] || give_up "no engine answers at $DOCKER_HOST, and only root can start one"
[ "${DOCKER_HOST#unix://}" != "$DOCKER_HOST" ] || give_up "no engine answers at $DOCKER_HOST, and it is not for us to start"

# One at a time: of two engines on one machine the second takes the first one's network away.
exec 9>"$LOG.lock"
flock 9
command -v docker >/dev/null && answers && finish
command -v dockerd >/dev/null || install_engine
prepare_cgroups

# A container may let it neither write firewall rules nor stack file systems.
for arguments in "" "$NO_NETWORK" "--storage-driver=vfs" "--storage-driver=vfs $NO_NETWORK"; do
  # shellcheck disable=SC2086 # words on purpose
  start_engine ${DOCKERD_ARGUMENTS:-} $arguments && finish
done
give_up "no engine could be started"
