# syntax=docker/dockerfile:1

# The toolchain of `rust-version` in Cargo.toml.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies first, behind an empty crate: this layer is built again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo ./.cargo
RUN mkdir -p src benches tests/it \
 && echo 'fn main() {}' | tee src/main.rs benches/pure_path.rs tests/it/main.rs >/dev/null \
 && touch src/lib.rs \
 && cargo build --release --locked --bin wardroom \
 && rm -rf src benches tests

COPY . .
# Newer than what the empty crate left behind, or cargo takes that for the real one.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --bin wardroom

FROM debian:bookworm-slim
# The roots that amqps, postgres with TLS and https are checked against.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/wardroom
COPY --from=build /build/target/release/wardroom /usr/local/bin/wardroom
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/wardroom
EXPOSE 2575 8575
ENTRYPOINT ["/usr/local/bin/wardroom"]
CMD ["serve"]
