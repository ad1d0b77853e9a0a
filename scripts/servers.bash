# Private servers for scripts: in a temporary folder, on free ports of 127.0.0.1, touching nothing of the machine. To be sourced; whoever does so ends
# with `stop_servers`, which ends what was started here and nothing else.

folder=""
rabbit_bin=/usr/lib/rabbitmq/bin

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }

make_folder() {
  [ -z "$folder" ] || return 0
  folder=$(mktemp -d /tmp/wardroom.XXXXXX)
  chmod 755 "$folder"
}

# The newest folder with PostgreSQL's programs, if any.
postgres_bin() { find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1; }

# Installs Debian packages, with sudo when not root; false when that cannot be done.
install() { # PACKAGE...
  local root=()
  if [ "$(id -u)" != 0 ]; then root=(sudo); fi
  command -v apt-get >/dev/null && { [ ${#root[@]} = 0 ] || command -v sudo >/dev/null; } || return 1
  say "installing with apt: $*"
  "${root[@]}" apt-get update -qq >&2 \
    && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
}

# A port that nobody listens on now, and that no outgoing connection is given.
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# PostgreSQL refuses to run as root, so as root it runs as the user that its package made, from a folder which that user may enter.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid="$(id -g postgres)" --clear-groups env --chdir=/ HOME=/tmp LC_ALL=C.UTF-8 "$@"
  else
    env --chdir=/ LC_ALL=C.UTF-8 "$@"
  fi
}

# Starts PostgreSQL and makes the database `wardroom`, empty; sets postgres_url. The rest are options of the server.
start_postgres() { # OPTIONS
  local bin port
  bin=$(postgres_bin)
  make_folder
  mkdir "$folder/postgres"
  if [ "$(id -u)" = 0 ]; then chown postgres "$folder/postgres"; fi
  local data=$folder/postgres/data
  as_postgres "$bin/initdb" -D "$data" -U wardroom -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
  for _ in 1 2 3 4 5; do
    port=$(free_port)
    if as_postgres "$bin/pg_ctl" -D "$data" -w -s -l "$folder/postgres/log" -o "-h 127.0.0.1 -p $port -k $folder/postgres -c max_connections=200 $1" start >/dev/null 2>&1; then
      as_postgres "$bin/createdb" -h 127.0.0.1 -p "$port" -U wardroom wardroom
      postgres_url="postgres://wardroom@127.0.0.1:$port/wardroom"
      return 0
    fi
  done
  cat "$folder/postgres/log" >&2 || true
  fail "PostgreSQL does not start"
}

# A program of RabbitMQ, with the settings of a node. Debian's own wrapper would change to the user `rabbitmq`.
rabbit() { # FOLDER-OF-NODE PROGRAM ARGUMENT...
  local node=$1 program=$2
  shift 2
  (set -a && . "$node/env" && cd "$node" && exec "$rabbit_bin/$program" "$@")
}

# Starts a node, anew with the same ports and data, and waits until it takes connections.
start_rabbit_node() { # FOLDER-OF-NODE
  local port
  port=$(cat "$1/port")
  rabbit "$1" rabbitmq-server >"$1/log/stdout" 2>&1 </dev/null &
  for _ in $(seq 900); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
    sleep 0.1
  done
  tail -n 30 "$1/log/stdout" >&2
  fail "RabbitMQ does not start"
}

# Starts a cluster of three nodes; sets rabbit_urls.
start_rabbit_cluster() {
  local epmd_port dist_port port node
  make_folder
  epmd_port=$(free_port)
  epmd -port "$epmd_port" -address 127.0.0.1 >/dev/null 2>&1 &
  echo $! >"$folder/epmd.pid"
  rabbit_urls=()
  for name in a b c; do
    node=$folder/rabbit-$name
    mkdir -p "$node"/{mnesia,log,home,gen}
    if [ "$name" = a ]; then head -c 24 /dev/urandom | base64 | tr -dc A-Za-z0-9 >"$node/home/.erlang.cookie"
    else cp "$folder/rabbit-a/home/.erlang.cookie" "$node/home/"; fi
    chmod 400 "$node/home/.erlang.cookie"
    port=$(free_port)
    dist_port=$(free_port)
    echo "$port" >"$node/port"
    printf '%s\n' "listeners.tcp.1 = 127.0.0.1:$port" "vm_memory_high_watermark.absolute = 1GB" "disk_free_limit.absolute = 10MB" >"$node/rabbitmq.conf"
    echo "[]." >"$node/enabled_plugins"
    cat >"$node/env" <<END
HOME='$node/home'
ERL_EPMD_PORT=$epmd_port
ERL_EPMD_ADDRESS=127.0.0.1
RABBITMQ_NODENAME=wardroom-$name@localhost
RABBITMQ_DIST_PORT=$dist_port
RABBITMQ_MNESIA_BASE='$node/mnesia'
RABBITMQ_LOG_BASE='$node/log'
RABBITMQ_CONFIG_FILE='$node/rabbitmq.conf'
RABBITMQ_CONF_ENV_FILE=/dev/null
RABBITMQ_GENERATED_CONFIG_DIR='$node/gen'
RABBITMQ_ENABLED_PLUGINS_FILE='$node/enabled_plugins'
RABBITMQ_PID_FILE='$node/pid'
RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
END
    start_rabbit_node "$node"
    rabbit "$node" rabbitmqctl -q await_startup
    if [ "$name" != a ]; then
      rabbit "$node" rabbitmqctl -q stop_app
      rabbit "$node" rabbitmqctl -q join_cluster wardroom-a@localhost
      rabbit "$node" rabbitmqctl -q start_app
    fi
    rabbit_urls+=("amqp://guest:guest@127.0.0.1:$port/%2f")
  done
}

# Ends a process, first kindly.
end_process() { # SIGNAL PID
  kill "-$1" "$2" 2>/dev/null || return 0
  for _ in $(seq 100); do kill -0 "$2" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$2" 2>/dev/null || true
}

stop_servers() {
  [ -n "$folder" ] || return 0
  for node in "$folder"/rabbit-*; do
    if [ -s "$node/pid" ]; then end_process TERM "$(cat "$node/pid")"; fi
  done
  if [ -s "$folder/epmd.pid" ]; then end_process TERM "$(cat "$folder/epmd.pid")"; fi
  if [ -s "$folder/postgres/data/postmaster.pid" ]; then end_process INT "$(head -n 1 "$folder/postgres/data/postmaster.pid")"; fi
  rm -rf "$folder" || true
}
