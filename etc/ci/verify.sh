#!/bin/sh
# Replicates a database that it makes up, and proves that what came of it can be
# restored. The jobs beside this file run it; so does a test (integration), so that
# they don't rot.
#
#   REPLICA_URL  where the replica goes: an empty prefix
#   REPORT       the JUnit report that it writes (default: tidemark-report.xml)
#   TIDEMARK     the program; without it, it is built from this checkout
#   TIDEMARK_S3_ACCESS_KEY_ID, TIDEMARK_S3_SECRET_ACCESS_KEY  the credentials
#
# To verify a replica of your own every night, the last command is all you need; on a
# machine that does not have the database leave out --against and --max-lag. To read
# a large replica over thirty nights, have one job say
#   tidemark verify "$REPLICA_URL" --level objects --sample "$(($(date +%d) % 30 + 1))/30"
set -eu
: "${REPLICA_URL:?the URL of the replica is missing}"
: "${REPORT:=tidemark-report.xml}"

work=$(mktemp -d)
replicator=
end() {
	if [ -n "$replicator" ]; then
		kill "$replicator" 2>/dev/null || true
		wait "$replicator" || true
	fi
	rm -rf "$work"
}
trap end EXIT
if [ -z "${TIDEMARK:-}" ]; then
	TIDEMARK=$work/tidemark
	CGO_ENABLED=0 go build -o "$TIDEMARK" ./cmd/tidemark
fi

db=$work/app.db
sqlite3 "$db" 'PRAGMA journal_mode=WAL; CREATE TABLE orders(id INTEGER PRIMARY KEY, what TEXT)' >"$work/mode"
"$TIDEMARK" replicate "$db" "$REPLICA_URL" &
replicator=$!
tries=0
until "$TIDEMARK" status "$db" --max-lag 1m >"$work/status" 2>&1; do
	tries=$((tries + 1))
	if [ "$tries" -gt 60 ]; then
		cat "$work/status"
		exit 1
	fi
	sleep 1
done
order=0
while [ "$order" -lt 40 ]; do
	order=$((order + 1))
	sqlite3 "$db" ".timeout 10000" "INSERT INTO orders(what) VALUES('order $order')"
done

"$TIDEMARK" verify "$REPLICA_URL" --points 5 --against "$db" --max-lag 1m --junit "$REPORT"
