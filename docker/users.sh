#!/bin/sh
# Creates and changes the accounts of the tracking server: docker/users.sh FILE [--dry-run] [--remove]
# Runs in a container when the service is that of compose: then Docker is all that is needed.
# shellcheck disable=SC1091,SC2154 # what it sets is checked there
. "$(dirname -- "$0")/common.sh"
find_service
if [ "$service" = native ]; then
    # Docker may have secrets here too.
    [ ! -e "$native/secrets/admin_password" ] || set -- "--secrets=$native/secrets" "$@"
    run_module accounts.apply "$@"
fi
# Mode, links, user, group, …: the owner alone reads and writes there, in a container too.
# shellcheck disable=SC2012 # `stat` has other options on other systems
owner=$(ls -nd "$folder/secrets" | awk '{print $3 ":" $4}')
case ${1:--} in
    -*)
        compose run --rm -T --user "$owner" users "$@"
        exit
        ;;
    /*) file=$1 ;;
    *) file=$PWD/$1 ;;
esac
[ -f "$file" ] || fail "There is no file $1 with lines \`name: role\`, as in docker/users.example.yaml."
shift
compose run --rm -T --user "$owner" --volume "$file:$file:ro" users "$file" "$@"
