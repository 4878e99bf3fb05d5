#!/bin/sh
# Instructions per round trip of the engine alone, counted by callgrind: the difference of a run with N calls and one with 2N,
# divided by N, so that what comes before the calls does not count. `ENGINE=binary` measures another build.
set -eu
cd "$(dirname "$0")"
command -v valgrind >/dev/null || { echo "valgrind is needed" >&2; exit 1; }
if [ -z "${ENGINE:-}" ]; then
    cargo build --quiet --release --example engine
    ENGINE=$(cargo metadata --no-deps --format-version 1 |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/examples/engine
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Instructions of one run: case, body, calls in flight, calls.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file="$log" \
        "$ENGINE" "$1" --body "$2" --in-flight "$3" --calls "$4" >/dev/null
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$log"
}

echo "| case | body | in flight | instructions |"
echo "| --- | --- | --- | --- |"
row() {
    once=$(count "$1" "$2" "$3" "$4")
    twice=$(count "$1" "$2" "$3" $((2 * $4)))
    # The calls that go before are a quarter as many, and one.
    echo "| $1 | $2 | $3 | $(((twice - once) * 4 / (5 * $4))) |"
}
for case in dialect-1 dialect-2 curve; do
    row "$case" 64 128 8000
    row "$case" 64 1 4000
done
for case in dialect-1 dialect-2; do
    row "$case" 1048576 32 160
done
