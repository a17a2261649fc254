#!/bin/bash
# fuzz.sh each SECONDS  fuzzes every target for that long
# fuzz.sh share SECONDS shares the time among all targets: those of packages that
#                       changed since FUZZ_BASE (by default main, else the last 20
#                       commits) come first and get twice as much
# fuzz.sh keep COUNT    copies the shortest inputs that fuzzing has found for each target
#                       of a codec, up to COUNT, into its testdata/fuzz: the saved
#                       corpus, which every test run replays
#
# A crasher is written to the package's testdata/fuzz, where it is a test from then on.
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
mode=$1 seconds=$2
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
cache=$(go env GOCACHE)/fuzz

if [ "$mode" = keep ]; then
  count=$seconds
  git grep -Eo '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' -- dtyp secdesc gkdi managedpassword credspec krb5 internal/adproto |
    sed -E 's/^([^:]*)\/[^\/]*:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' |
    while read -r dir name; do
      found=$cache/github.com/opengmsa/opengmsa/$dir/$name
      [ -d "$found" ] || continue
      mkdir -p "$dir/testdata/fuzz/$name"
      find "$found" -type f -printf '%s %p\n' | sort -k1,1n -k2 | head -n "$count" | cut -d' ' -f2- |
        xargs -r -d '\n' cp -t "$dir/testdata/fuzz/$name"
    done
  exit
fi

base=${FUZZ_BASE:-$(git merge-base HEAD origin/main 2>/dev/null || true)}
if [ -z "$base" ] || [ "$(git rev-parse "$base")" = "$(git rev-parse HEAD)" ]; then
  base=$(git rev-list --max-count=20 HEAD | tail -n 1)
fi
changed=$(git diff --name-only "$base" HEAD -- '*.go' | xargs -r -n 1 dirname | sort -u)

# One line for each target: weight, directory, name.
targets=$(git grep -hEo --untracked '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' -- '*_test.go' >/dev/null &&
  git grep -Eo --untracked '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' -- '*_test.go' |
  sed -E 's/^([^:]*)\/[^\/]*:func (Fuzz[A-Za-z0-9_]*).*/\1 \2/' |
  while read -r dir name; do
    weight=1
    if grep -qxF "$dir" <<<"$changed"; then weight=2; fi
    echo "$weight $dir $name"
  done | sort -k1,1nr -k2,3)
[ -n "$targets" ] || { echo "fuzz: no targets"; exit 1; }
weights=$(awk '{ w += $1 } END { print w }' <<<"$targets")
echo "$(wc -l <<<"$targets") targets, $(awk '$1 == 2' <<<"$targets" | wc -l) of them in packages changed since $(git rev-parse --short "$base")"

# To shorten an interesting input by the clock, as is usual, takes all of a short time and
# leaves no execution for the search: a target got 8 in 3 s that way, and 26,000 so.
minimize=20x

# Go's fuzzer sometimes takes the end of its time for a failure, of a target whose single
# execution takes long: nothing failed then, and there is no input. A finding always has one.
out_of_time() {
  grep -q '^    context deadline exceeded$' "$bin/log" && ! grep -q 'Failing input' "$bin/log"
}

last=
while read -r weight dir name; do
  if [ "$dir" != "$last" ]; then # one instrumented binary for all targets of a package
    go test -c -fuzz=. -o "$bin/fuzz.test" "./$dir" </dev/null
    last=$dir
  fi
  case $mode in
    each) time=$seconds ;;
    share) time=$(awk "BEGIN { printf \"%.1f\", $seconds * $weight / $weights }") ;;
  esac
  t0=$(date +%s%N)
  if ! (cd "$dir" && "$bin/fuzz.test" -test.run='^$' -test.fuzz="^$name\$" -test.fuzztime="${time}s" -test.fuzzminimizetime=$minimize \
      -test.fuzzcachedir="$cache/github.com/opengmsa/opengmsa/$dir" -test.parallel="$(nproc 2>/dev/null || echo 2)" \
      </dev/null >"$bin/log" 2>&1) && ! out_of_time; then
    cat "$bin/log"
    echo "FAIL	$dir $name"
    exit 1
  fi
  execs=$(sed -nE 's/.*execs: ([0-9]+).*/\1/p' "$bin/log" | tail -n 1)
  printf 'ok  \t%s %s\t%.1fs\t%s execs\n' "$dir" "$name" "$(awk "BEGIN { print ($(date +%s%N) - $t0) / 1e9 }")" "${execs:-?}"
done <<<"$targets"
