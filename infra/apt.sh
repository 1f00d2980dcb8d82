#!/bin/sh
# Installs the named Debian packages that are missing: as root, else by sudo, else says what to type.
missing=""
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "missing:$missing (Debian names); install them by this system's own means" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    root=""
elif sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then
    root="sudo"
else
    echo "missing:$missing; as root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing$missing"
# Debian starts what it installs (nginx on every address); the tests start their own on the loopback address.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
fi
install="$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing"
$install >/dev/null 2>&1 || { $root apt-get update -qq && $install >/dev/null; }
