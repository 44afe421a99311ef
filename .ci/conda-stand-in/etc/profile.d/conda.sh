# Sourced by the shell in which `mlflow run` starts the command (bash); see bin/conda.
conda() {
    local home venv
    home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd) || return
    venv=$(cd "$home/../.." && pwd) || return
    if [ "$*" != "activate $(cat "$home/name")" ]; then
        echo "conda stand-in: conda.yaml must be the one $venv was made from, but it has changed (or is another project's). Run \`make setup\`." >&2
        return 1
    fi
    echo "conda stand-in: environment already provided: $venv is used instead of a conda environment" >&2
    export VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH"
}
