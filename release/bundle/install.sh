#!/bin/sh
# Installs octopus-exporter from this folder, without a network: ./install.sh [PREFIX]
#
# PREFIX is /opt/octopus-exporter by default, as the systemd unit expects. It needs Python 3.11 or later with its
# module venv; PYTHON=/path/to/python3 names another one than python3. A second run upgrades.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
prefix=${1:-/opt/octopus-exporter}
python=${PYTHON:-python3}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "$python is not Python 3.11 or later; say where one is: PYTHON=/path/to/python3 $0"
(cd "$here" && sha256sum --check --quiet SHA256SUMS) || fail "this folder is not complete, or was changed"

# pip comes from this folder: on Debian, venv has none without the package python3-venv.
"$python" -m venv --without-pip "$prefix"
"$prefix/bin/python" "$(echo "$here"/wheels/pip-*.whl)/pip" --disable-pip-version-check --quiet --isolated install \
  --no-index --find-links "$here/wheels" --require-hashes --requirement "$here/requirements.txt"
"$prefix/bin/octopus-exporter" --version
