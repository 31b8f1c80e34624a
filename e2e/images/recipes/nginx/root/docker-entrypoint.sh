#!/bin/sh
set -e
if [ "$1" = nginx ] && [ -d /etc/nginx/templates ]; then
  defined=$(env | sed -E 's/^([A-Za-z0-9_]+)=.*/$\1/' | grep '^\$' | tr '\n' ' ')
  for template in /etc/nginx/templates/*.template; do
    [ -e "$template" ] || continue
    envsubst "$defined" <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
  done
fi
exec "$@"
