# stages.sh is sourced by scripts that run in stages: each stage's time is printed
# when it ends, and all of them once more at the end.

STAGES=
STARTED=$(date +%s)

# stage NAME COMMAND... runs a stage; a stage that fails ends the script.
stage() {
  local name=$1 t0 rc=0; shift
  t0=$(date +%s)
  printf '\n=== %s\n' "$name"
  "$@" || rc=$?
  STAGES+=$(printf '%5d s  %s' $(($(date +%s) - t0)) "$name")$([ $rc = 0 ] || echo '  FAILED')$'\n'
  printf -- '--- %s: %d s\n' "$name" $(($(date +%s) - t0))
  [ $rc = 0 ] || { stages_end FAIL; exit $rc; }
}

# stages_end ok|FAIL prints the times and a last line like go test's.
stages_end() {
  printf '\n%s' "$STAGES"
  printf '%s\tgithub.com/opengmsa/opengmsa\t%d.000s\n' "$1" $(($(date +%s) - STARTED))
}
