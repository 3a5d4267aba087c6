#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make sure that the independent programs the tests compare with are here: dtc, iasl, lsmem, bc, groff,
# fusermount3, through which machines are mounted, systemd-analyze, an ssh server, fish, zsh, man, jq, dpkg-deb, promtool, chromium
# with its driver, and the kernel's header of ATAGs with a compiler to read it.
missing=
for pair in dtc:device-tree-compiler iasl:acpica-tools lsmem:util-linux bc:bc groff:groff-base fusermount3:fuse3 \
    systemd-analyze:systemd fish:fish zsh:zsh man:man-db jq:jq dpkg-deb:dpkg promtool:prometheus \
    ssh:openssh-client sshd:openssh-server chromium:chromium chromedriver:chromium-driver; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -e /usr/arm-linux-gnueabihf/include/asm/setup.h ] || missing="$missing linux-libc-dev-armhf-cross"
command -v gcc >/dev/null 2>&1 || missing="$missing gcc"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    { apt-get install -y -qq $missing || { apt-get update -qq && apt-get install -y -qq $missing; }; } >/dev/null 2>&1 && exit 0
fi
echo "missing:$missing. The tests marked 'referee' that need them are left out (as root on Debian: apt-get install$missing)."
[ -z "$CI" ] || { echo "CI must not leave tests out" >&2; exit 1; }
