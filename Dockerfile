# The `defi` command with SQL and AWS: `make image`. docs/container.md shows how to run it.
#
# Both images have the same Debian release, so that the binary finds the C library that it was linked against. To pin them by digest:
# --build-arg RUST_IMAGE=rust@sha256:… --build-arg BASE_IMAGE=debian@sha256:…
ARG RUST_IMAGE=rust:1.95.0-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS builder
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    make build && cp target/release/defi /usr/local/bin/defi

FROM ${BASE_IMAGE}
# useradd takes today's date from SOURCE_DATE_EPOCH; logs and caches, which hold dates too, are removed with the package lists.
ARG SOURCE_DATE_EPOCH=0
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates=20230311+deb12u1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache /var/log/*
# ./lakehouse, the default of --lake, is the volume.
RUN useradd --uid 10001 --user-group --no-log-init --home-dir /work --shell /usr/sbin/nologin defi \
    && mkdir /lake /work \
    && chown 10001:10001 /lake \
    && ln -s /lake /work/lakehouse
COPY --from=builder /usr/local/bin/defi /usr/local/bin/defi

USER 10001:10001
WORKDIR /work
VOLUME /lake
# `defi serve` ends on an interrupt.
STOPSIGNAL SIGINT
ENTRYPOINT ["defi"]
CMD ["--help"]
