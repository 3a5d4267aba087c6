#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Make sure that what `make packaging` needs is here: a Debian in a folder, an image of it, a machine that boots it.
missing=
for pair in dpkg-deb:dpkg debootstrap:debootstrap mkfs.ext4:e2fsprogs qemu-system-x86_64:qemu-system-x86 unshare:util-linux; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ "$(id -u)" = 0 ] || { echo "make packaging must be root: debootstrap is" >&2; exit 1; }
[ -z "$missing" ] && exit 0
echo "installing$missing"
install="apt-get install -y -qq --no-install-recommends"
{ $install $missing || { apt-get update -qq && $install $missing; }; } >/dev/null
