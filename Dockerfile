# The image: /opt/sqlite-entrypoint, a tree with its own Python, SQLite and C library that runs in
# any image it is copied into, and the few files that a process needs beside it. docs/image.md
# says what is in it and why.
#
#   docker build -t sqlite-entrypoint \
#       --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
#       --build-arg CREATED="$(TZ=UTC git log -1 --date=format-local:%FT%TZ --format=%cd)" \
#       --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Without the arguments the same files have the date of 1970.

ARG BASE=debian:trixie-slim

# Nothing of this stage is in the image but what it lays out, so it is not kept small. Debian has
# only the newest build of a package, so no versions stand here; the list in the image names them.
FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        binutils gcc libc6-dev libpython3.13-dev musl-tools python3.13 python3-pip

# What Python compiles here is the same each time, and without the columns of each instruction: a
# traceback shows them by the source, which is not there.
ENV PYTHONHASHSEED=0 PYTHONNODEBUGRANGES=1
WORKDIR /build
COPY docker/requirements.txt ./
RUN python3.13 -m pip install --require-hashes --no-deps --no-compile --only-binary :all: \
        --disable-pip-version-check --root-user-action ignore --no-cache-dir \
        --target site -r requirements.txt

# The launcher's interpreter path is the tree's, and its DT_RPATH (unlike LD_LIBRARY_PATH and
# DT_RUNPATH it holds for the extension modules' libraries too, comes before the environment, and
# leaves no trace). On arm64 segments are aligned for pages of 64 KiB; docker/check.py looks.
COPY docker/*.c docker/*.h ./
COPY docker/*.py docker/
COPY entrypoint site/entrypoint
COPY migrator site/migrator
RUN python3.13 -m docker.freeze site frozen.c \
 && flags="-std=c11 -O2 -Wall -Wextra -Werror -s" \
 && layout="-Wl,-z,noseparate-code,-z,relro,-z,now,--build-id=none" \
 && musl-gcc ${flags} -static ${layout} -o start start.c \
 && linker="$(readelf --string-dump=.interp /usr/bin/python3.13)" \
 && gcc ${flags} -fPIE -pie ${layout} -o launcher launcher.c frozen.c -I/usr/include/python3.13 \
        -Wl,--dynamic-linker="/opt/sqlite-entrypoint/lib/${linker##*/}" \
        -Wl,--disable-new-dtags,-rpath,/opt/sqlite-entrypoint/lib -lpython3.13

COPY LICENSE ./
ARG SOURCE_DATE_EPOCH=0
RUN SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" \
        python3.13 -m docker.tree /build/root start launcher site LICENSE \
 && mkdir /build/empty && touch --date="@${SOURCE_DATE_EPOCH}" /build/empty

FROM scratch
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
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="sqlite-entrypoint" \
      org.opencontainers.image.description="Waits, locks, backs up, migrates, verifies and restores a SQLite database, and becomes the application" \
      org.opencontainers.image.url="https://github.com/sqlite-entrypoint/sqlite-entrypoint" \
      org.opencontainers.image.source="https://github.com/sqlite-entrypoint/sqlite-entrypoint" \
      org.opencontainers.image.documentation="https://github.com/sqlite-entrypoint/sqlite-entrypoint/tree/main/docs" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
