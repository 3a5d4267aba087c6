#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make sure that what the tests marked 'kernel' need is here: QEMU, cross compilers, a file system maker.
missing=
for pair in qemu-system-aarch64:qemu-system-arm aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu make:make \
            mkfs.ext4:e2fsprogs setpriv:util-linux zstd:zstd cpio:cpio \
            arm-linux-gnueabihf-gcc:gcc-arm-linux-gnueabihf gcc:gcc flex:flex bison:bison bc:bc xz:xz-utils prove:perl \
            sparse:sparse git:git; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    install="apt-get install -y -qq --no-install-recommends"
    { $install $missing || { apt-get update -qq && $install $missing; }; } >/dev/null 2>&1 && exit 0
fi
echo "missing:$missing. The tests marked 'kernel' are left out (as root on Debian: apt-get install$missing)."
[ -z "$CI" ] || { echo "CI must not leave tests out" >&2; exit 1; }
