#!/bin/sh
# Start a command with the secrets that were mounted as files, so that none stands in an image, a compose file or a
# command line. Every file of the secrets folder whose name is that of a variable (AWS_SECRET_ACCESS_KEY) becomes it.
set -eu
folder="${INTERNVL_SECRETS:-/run/secrets}"
if [ -d "$folder" ]; then
    for file in "$folder"/*; do
        [ -f "$file" ] || continue
        name="$(basename "$file")"
        case "$name" in
            *[!A-Z0-9_]*) continue ;;
        esac
        value="$(cat "$file")"
        export "$name=$value"
    done
fi
exec "$@"
