# What the scripts of tests/vm/run share; runs inside the machine.
set -eu
ok() { echo "ok: $1"; }
fail() {
  echo "FAILED: $1"
  systemctl status pawgate --no-pager || true
  journalctl -b -u pawgate --no-pager -o short-monotonic | tail -n 40
  exit 1
}
# Waits (the machine's seconds, which the host's load does not stretch) until a command succeeds.
await() { n=0; until eval "$2"; do n=$((n + 1)); [ $n -lt 900 ] || fail "$1"; sleep 0.1; done; ok "$1"; }
show() { systemctl show pawgate -p "$1" --value; }
ready_after() { echo "$(($(show ActiveEnterTimestampMonotonic) / 1000000))"; }

# Level of a line, from the chip's own registers: what a meter would show.
level() { echo $(($(devmem 0x90303fc 8) >> $1 & 1)); }
# Lets the emulated input line $1 read $2.
drive() {
  d=$(devmem 0x9030400 8); bit=$((1 << $1))
  devmem 0x9030400 8 $((d | bit)); devmem $((0x9030000 + (bit << 2))) 8 $(($2 * bit)); devmem 0x9030400 8 $((d & ~bit))
}
# Presses the button; it counts once it has been seen released.
unlock() { sleep 1; drive 2 1; await "the button unlocks" '[ "$(level 1)" = 1 ]'; drive 2 0; sleep 0.2; }
locked_and_well() { [ "$(level 1)" = 0 ] && pawgate status >/dev/null || { pawgate status || true; fail "locked and without a fault"; }; }
# doctor says this, a line each, and nothing else that is wrong but the clock, which nobody keeps here.
well() {
  pawgate doctor >doctor || true
  ! grep '^WRONG' doctor | grep -v '^WRONG  clock ' || { cat doctor; fail "doctor finds something wrong"; }
  for line in "$@"; do grep "^$line" doctor || { cat doctor; fail "doctor says: $line"; }; done
}
# A drop-in for the unit.
settings() {
  mkdir -p /etc/systemd/system/pawgate.service.d
  cat >/etc/systemd/system/pawgate.service.d/test.conf
  systemctl daemon-reload
}

# Decisions of this boot, as they were told.
told() { journalctl -b -u pawgate -o cat | grep '"event":"decision"'; }
ready_and_low() {
  [ $(($(cat /run/before) >> 1 & 1)) = 0 ] || fail "the line is low before pawgate starts"
  [ "$(level 1)" = 0 ] && [ "$(show ActiveState)" = active ] || fail "ready, and the line is low"
  ok "ready by itself after $(ready_after) s of the machine's time; the line was low before and is low after"
}
# The journal is whole, and every decision that was told for keeps before the power was cut is in it.
kept() {
  journal=/var/lib/pawgate/journal
  [ "$(sqlite3 -readonly $journal/journal.db 'PRAGMA integrity_check')" = ok ] || { ls -l $journal; fail "the journal's pages are in order"; }
  pawgate events --json --limit 10000 >kept || fail "the journal can be read"
  ! ls $journal | grep 'corrupt\|foreign' || fail "no journal was moved aside"
  while read -r line; do grep -qF -- "${line%\}}" kept || { echo "$line"; fail "a decision is not in the journal"; }; done </machine/told
  ok "the journal is in order, with $(wc -l <kept) events; all $(wc -l </machine/told) decisions that had been told for keeps are in it"
}
# A reset at once: nothing is written back, nothing is told to end.
cut() { echo 0 >/machine/status; echo b >/proc/sysrq-trigger; sleep 60; }
