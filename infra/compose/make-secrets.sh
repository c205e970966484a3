#!/bin/sh
# Make the secrets of compose.yaml once; what exists is kept. Only you can enter the folder; its files are readable because
# Docker shows each to a container that runs as user 1000.
set -eu
folder="$(cd "$(dirname "$0")" && pwd)/secrets"
mkdir -p "$folder"
chmod 700 "$folder"
umask 077

make() {
    [ -s "$folder/$1" ] && return
    printf '%s' "$2" > "$folder/$1"
    chmod 644 "$folder/$1"
    echo "made $1"
}

random() {
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

make AWS_ACCESS_KEY_ID "internvl$(random 4)"
make AWS_SECRET_ACCESS_KEY "$(random 24)"
make PREFECT_SERVER_DATABASE_PASSWORD "$(random 24)"
make PREFECT_SERVER_API_AUTH_STRING "internvl:$(random 16)"
make ray_token "$(random 32)"
echo "the Prefect UI asks for what stands in $folder/PREFECT_SERVER_API_AUTH_STRING"
