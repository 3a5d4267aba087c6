#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is tried in the guest, as root, by trial.service: before a reboot with a bank out, and after it. A line each.
HERE=$(dirname "$0")
FILES=$HERE/files.before
SOCKET=unix:/run/hotbank/socket

say() { echo "trial: $*"; }

# expect STATUS NAME COMMAND...: it must end with that status.
expect() {
    wanted=$1 name=$2
    shift 2
    said=$("$@" 2>&1)
    got=$?
    if [ "$got" = "$wanted" ]; then say "ok: $name"; else say "FAILED: $name: exit status $got: $(echo "$said" | tr '\n' '|')"; fi
}

# reads WORD NAME COMMAND...: what it prints must have that word.
reads() {
    word=$1 name=$2
    shift 2
    case $("$@" 2>&1) in *"$word"*) say "ok: $name" ;; *) say "FAILED: $name: no '$word' in: $("$@" 2>&1)" ;; esac
}

as() { user=$1; shift; runuser -u "$user" -- "$@"; }
order() { hotbank -m $SOCKET "$@"; }
bank() { order list -o bank,kernel,power; }
high() { bank | grep '^high'; }
# The unit that brings all banks in is restarted with the owner, after it.
restart() { systemctl restart hotbank.service && systemctl start hotbank-banks.service; }
blocks() { grep . /sys/devices/system/memory/memory*/state; }
same_blocks() { blocks | cmp - $HERE/blocks.before; }
files() { find / -xdev \( -path /root -o -path /var/log -o -path /var/lib/dpkg -o -path /tmp -o -path /var/tmp \) -prune -o -print | sort; }

first() {
    useradd member
    useradd stranger
    files >$FILES
    blocks >$HERE/blocks.before
    expect 0 "the package is installed" dpkg -i $HERE/hotbank.deb
    reads active "the socket listens" systemctl is-active hotbank.socket
    for unit in hotbank.socket hotbank.service hotbank-banks.service hotbank-kdump.path; do
        reads enabled "$unit is enabled" systemctl is-enabled $unit
    done
    expect 0 "an installation changes no memory" same_blocks
    reads active "banks come in before a reboot" systemctl is-active hotbank-banks.service
    expect 0 "the man page is found" test -e /usr/share/man/man1/hotbank.1.gz

    cp $HERE/board.toml /etc/hotbank/board.toml
    expect 0 "the owner starts with a board" restart
    expect 0 "the board fits this machine" hotbank -m host board check /etc/hotbank/board.toml --host

    gpasswd --add member hotbank >/dev/null
    reads high "a member of the group is answered" as member hotbank -m $SOCKET list
    reads NOT_PERMITTED "a member may not change anything" as member hotbank -m $SOCKET remove high
    expect 1 "a stranger is not answered" as stranger hotbank -m $SOCKET list

    reads "online  on" "the bank that it names has come in" high
    expect 0 "the sandboxed owner removes it and switches it off" order remove high
    reads "absent  off" "it is out and dark" high
    expect 0 "the sandboxed owner adds it" order add high
    reads "online  on" "it is in" high
    reads remove "history knows" order history

    mkdir -p /etc/systemd/system/hotbank.service.d
    cp /usr/share/doc/hotbank/hotbank.service.d/board-commands.conf /etc/systemd/system/hotbank.service.d/
    systemctl daemon-reload
    expect 0 "the owner starts with the drop-in for a board's commands" restart
    expect 0 "it removes the bank" order remove high
    expect 0 "it adds it" order add high
    cp /usr/share/doc/hotbank/hotbank.service.d/auto.conf /etc/systemd/system/hotbank.service.d/
    systemctl daemon-reload
    expect 0 "the owner starts as governor" restart
    reads balance "it governs" order auto status
    rm /etc/systemd/system/hotbank.service.d/auto.conf
    systemctl daemon-reload
    expect 0 "the owner starts without" restart

    reads "online  on" "all banks come in with it" high
    expect 0 "the same package is installed over it" dpkg -i $HERE/hotbank.deb
    expect 0 "the bank leaves before the reboot" order remove high
    reads "absent  off" "it is out at the reboot" high
    reads "NRestarts=0" "the owner never failed" systemctl show -p NRestarts hotbank.service
    journalctl -q -b -u hotbank.service -p warning | sed 's/^/trial: journal: /'
    systemctl reboot
}

second() {
    for unit in hotbank.socket hotbank.service hotbank-banks.service; do
        reads active "$unit runs after the boot" systemctl is-active $unit
    done
    reads "online  on" "the bank is in after the boot" high
    order history | tail -n 4 | sed 's/^/trial: history: /'
    expect 0 "the bank leaves before the package" order remove high
    rm -r /etc/systemd/system/hotbank.service.d
    expect 0 "the package is purged" dpkg --purge hotbank
    reads online "and the bank came in first" cat /sys/devices/system/memory/memory36/state
    expect 2 "its group is gone" getent group hotbank
    expect 1 "none of its units is left" sh -c "systemctl list-unit-files --no-legend | grep hotbank"
    files >$HERE/files.after
    left=$(comm -13 $FILES $HERE/files.after | tr '\n' ' ')
    gone=$(comm -23 $FILES $HERE/files.after | tr '\n' ' ')
    if [ -z "$left$gone" ]; then say "ok: no file more or less than before"; else say "FAILED: left: $left gone: $gone"; fi
    say "the end"
    systemctl poweroff
}

if [ -e $FILES ]; then second; else first; fi
