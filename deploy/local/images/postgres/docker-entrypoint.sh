#!/bin/bash
# The official image's contract: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS,
# POSTGRES_HOST_AUTH_METHOD (each also as <NAME>_FILE), PGDATA, and what lies in /docker-entrypoint-initdb.d.
set -Eeuo pipefail

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

setting() { # <name> <default>: the variable, or the content of the file that <name>_FILE names
  local file="$1_FILE"
  if [ -n "${!file:-}" ]; then printf '%s' "$(<"${!file}")"; else printf '%s' "${!1:-$2}"; fi
}

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" && chmod 0700 "$PGDATA"
  find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
  exec setpriv --reuid=postgres --regid=postgres --init-groups --inh-caps=-all "$BASH_SOURCE" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=$(setting POSTGRES_USER postgres); database=$(setting POSTGRES_DB "$user")
  password=$(setting POSTGRES_PASSWORD ''); method=$(setting POSTGRES_HOST_AUTH_METHOD scram-sha-256)
  if [ -z "$password" ] && [ "$method" != trust ]; then
    echo 'POSTGRES_PASSWORD is empty: expected the password of the first user; set it, or POSTGRES_HOST_AUTH_METHOD=trust' >&2
    exit 1
  fi
  mkdir -p "$PGDATA" && chmod 0700 "$PGDATA"
  eval 'initdb --username="$user" --pwfile=<(printf "%s\n" "$password") '"$(setting POSTGRES_INITDB_ARGS '')"
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
  PGUSER=$user pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -p 5432" -w start
  export PGUSER=$user PGPASSWORD=$password PGHOST=/var/run/postgresql
  [ "$database" = postgres ] || createdb "$database"
  export PGDATABASE=$database
  for file in /docker-entrypoint-initdb.d/*; do
    case "$file" in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) psql -v ON_ERROR_STOP=1 --no-psqlrc -f "$file" ;;
      *.sql.gz) gunzip -c "$file" | psql -v ON_ERROR_STOP=1 --no-psqlrc ;;
    esac
  done
  pg_ctl -D "$PGDATA" -m fast -w stop
  unset PGUSER PGPASSWORD PGHOST PGDATABASE
fi
exec "$@"
