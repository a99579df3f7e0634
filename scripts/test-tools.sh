#!/bin/bash
# Installs the programs that tests start, on systems with apt-get. Does nothing when all
# of them are there. Without root or sudo it says what to install and goes on: the tests
# that need a program fail with the same words.
set -eu

packages=(
	gcc g++                                  # cgo and the race detector
	nginx-light libnginx-mod-rtmp icecast2   # the media servers
	ffmpeg                                   # publishers and viewers
	chromium chromium-driver                 # pages
	xfsprogs e2fsprogs                       # file systems to cut the power of
	strace iproute2                          # what reaches the disk; networks to break
)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "no apt-get here; tests need: ${packages[*]}" >&2
	exit 0
fi

missing=()
for package in "${packages[@]}"; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
	if [ "$status" != installed ]; then
		missing+=("$package")
	fi
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi

sudo=""
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
		echo "tests need: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
		exit 0
	fi
	sudo=sudo
fi

# Packages start their services when they are installed. Tests bring their own
# instances on their own ports, so for the time of the installation this is refused.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
	trap '$sudo rm -f "$policy"' EXIT
fi

export DEBIAN_FRONTEND=noninteractive
echo "installing: ${missing[*]}"
$sudo apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
