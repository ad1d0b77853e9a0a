# syntax=docker/dockerfile:1

# The toolchain of `rust-version` in Cargo.toml.
FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# What lays the program out once it is built.
RUN apt-get update && apt-get install -y --no-install-recommends bolt-19 && rm -rf /var/lib/apt/lists/*
RUN scripts/release /build/shipped

FROM debian:bookworm-slim
# The roots that amqps, postgres with TLS and https are checked against.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/wardroom
COPY --from=build /build/shipped/wardroom /usr/local/bin/wardroom
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/wardroom
EXPOSE 2575 8575
ENTRYPOINT ["/usr/local/bin/wardroom"]
CMD ["serve"]
