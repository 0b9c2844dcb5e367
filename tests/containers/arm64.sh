#!/usr/bin/env bash
# Builds the image for linux/arm64 and tests it on this machine: `tests/containers/arm64.sh`.
#
# Where this machine is no arm64 itself, everything is emulated, which takes some ten minutes: a
# stand-in for Debian where no registry can be reached, the build, docker/check.py, and the tests of
# a first install, an upgrade and a failing migration. Needs root, docker with BuildKit, and Debian's
# debootstrap, qemu-user-static and binutils.
set -euo pipefail
cd "$(dirname "$0")/../.."

base=arm64v8/debian:trixie-slim
image=sqlite-entrypoint:arm64
tests=(
  test_image.py::{test_install_upgrade_and_failure,test_standard_library,test_commands}
  test_users.py::test_any_user
)

# The kernel forgets an emulator that is registered in here once this script has ended. Registered
# with F, it is opened now, and works in containers, which do not have its file.
emulate() {
  if [[ $(uname -m) == aarch64 ]]; then return; fi
  if [[ ${1:-} != inside ]]; then exec unshare --mount "$0" inside; fi
  local mounted
  mounted=$(mktemp -d)
  mount -t binfmt_misc none "$mounted"
  if [[ -e $mounted/qemu-aarch64 ]]; then return; fi
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$mounted/register"
}

# Docker's client with the plugin buildx, or Debian's, which needs none. The classic builder would
# not do: it has the images of its own steps be of the engine's machine.
build() {
  local client=docker
  docker buildx version >/dev/null 2>&1 || client=/usr/bin/docker
  DOCKER_BUILDKIT=1 "$client" build --platform linux/arm64 --build-arg BASE="$base" \
    --tag "$image" .
}

emulate "$@"
tests/containers/base-image.sh "$base"
build
docker/check.py "$image"
export SQLITE_ENTRYPOINT_IMAGE=$image SQLITE_ENTRYPOINT_RUN_TIMEOUT=600
export DOCKER_DEFAULT_PLATFORM=linux/arm64
.venv/bin/pytest -m container "${tests[@]/#/tests/containers/}"
