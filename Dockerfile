# The image: /opt/sqlite-entrypoint, a tree with its own Python, SQLite and C library that runs in
# any image it is copied into, and the few files that a process needs beside it. docs/image.md
# says what is in it and why.
#
#   docker build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" -t sqlite-entrypoint .

ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils gcc libc6-dev libpython3.13-dev python3.13 python3-pip

WORKDIR /build
COPY docker/requirements.txt ./
RUN python3.13 -m pip install --require-hashes --no-deps --no-compile --only-binary :all: \
        --disable-pip-version-check --root-user-action ignore --no-cache-dir \
        --target site -r requirements.txt

# The interpreter path and DT_RPATH (unlike LD_LIBRARY_PATH and DT_RUNPATH they hold for the
# extension modules' libraries too, come before the environment, and leave no trace in it).
# 64 KiB: what a kernel with pages of that size, or of 16 KiB (Raspberry Pi 5), can map.
COPY docker/launcher.c ./
RUN linker=$(readelf --string-dump=.interp /usr/bin/python3.13 | awk 'END {print $NF}' RS='[[:space:]]+') \
 && gcc -std=c11 -O2 -Wall -Wextra -Werror -fPIE -pie -s -o launcher launcher.c \
        -I/usr/include/python3.13 \
        -Wl,--dynamic-linker="/opt/sqlite-entrypoint/lib/${linker##*/}" \
        -Wl,--disable-new-dtags,-rpath,/opt/sqlite-entrypoint/lib \
        -Wl,-z,max-page-size=65536,-z,noseparate-code,-z,relro,-z,now,--build-id=none \
        -lpython3.13

COPY docker/tree.py LICENSE ./
COPY entrypoint site/entrypoint
COPY migrator site/migrator
ARG SOURCE_DATE_EPOCH=0
RUN PYTHONHASHSEED=0 SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" \
        python3.13 tree.py /build/root launcher site LICENSE \
 && mkdir /build/empty && touch --date="@${SOURCE_DATE_EPOCH}" /build/empty

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="sqlite-entrypoint" \
      org.opencontainers.image.description="Waits, locks, backs up, migrates, verifies and restores a SQLite database, and becomes the application" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /build/root /
# No VOLUME line: it would hide a forgotten mount behind an anonymous volume.
COPY --from=build --chown=65532:65532 /build/empty /data
COPY --from=build --chown=65532:65532 /build/empty /migrations
ENV PATH=/opt/sqlite-entrypoint/bin \
    MIGRATOR_DATABASE=/data/app.db \
    MIGRATOR_MIGRATIONS=/migrations \
    MIGRATOR_MOUNT=require
# In numbers: Kubernetes cannot verify `runAsNonRoot` for a name.
USER 65532:65532
ENTRYPOINT ["/opt/sqlite-entrypoint/bin/entrypoint"]
