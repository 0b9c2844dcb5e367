#!/usr/bin/env bash
# Makes a stand-in for an official Debian image where no registry can be reached:
# `base-image.sh debian:trixie-slim`, any other release (`debian:bookworm-slim`), or the same for
# another machine by its name on Docker Hub (`arm64v8/debian:trixie-slim`; arm64.sh emulates it).
#
# Debian's official image is a debootstrap `minbase` as well. Nothing is done where the engine has
# an image of that name or can pull it. Needs root and `debootstrap`.
set -euo pipefail

tag=${1:?which image: debian:RELEASE-slim}
release=${tag#*debian:}
release=${release%-slim}
case $tag in
  arm64v8/*) architecture=arm64 ;;
  *) architecture=$(dpkg --print-architecture) ;;
esac

# A machine that has its own certificate authority in between tells pip of it here, in the
# stand-in, and not in the Dockerfile that users build.
trust_this_machine() {
  local bundle=${SSL_CERT_FILE:-${PIP_CERT:-}}
  if [[ ! -r $bundle ]]; then return; fi
  cp "$bundle" "$root/etc/pip-ca.crt"
  printf '[global]\ncert = /etc/pip-ca.crt\n' >"$root/etc/pip.conf"
}

build() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  root=$work/root
  debootstrap --arch="$architecture" --variant=minbase "$release" "$root" ${DEBIAN_MIRROR:-} \
    >"$work/log" 2>&1 || {
    tail -n 30 "$work/log" >&2
    return 1
  }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  trust_this_machine
  tar -C "$root" -c . | docker import \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'CMD ["bash"]' --change 'LABEL stand-in=debootstrap' - "$tag" >/dev/null
  if [[ $architecture != "$(dpkg --print-architecture)" ]]; then say_architecture; fi
}

# `docker import` has every image be of the engine's own machine, and BuildKit looks at that.
say_architecture() {
  mkdir "$work/saved"
  docker save "$tag" | tar -C "$work/saved" -x
  sed -i "s/\"architecture\":\"[a-z0-9]*\"/\"architecture\":\"$architecture\"/" "$work"/saved/*.json
  docker rmi "$tag" >/dev/null
  tar -C "$work/saved" -c . | docker load >/dev/null
}

if docker image inspect "$tag" >/dev/null 2>&1; then exit; fi
if timeout 120 docker pull -q "$tag" >/dev/null 2>&1; then exit; fi
build
