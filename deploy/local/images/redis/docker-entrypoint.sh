#!/bin/sh
# As the official image: options alone mean redis-server, root steps down to redis, and without a configuration file
# other hosts may connect.
set -eu
case "${1:-}" in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "$1" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --init-groups --inh-caps=-all "$0" "$@"
  fi
  case "${2:-}" in *.conf) ;; *) shift && set -- redis-server --protected-mode no "$@" ;; esac
fi
exec "$@"
