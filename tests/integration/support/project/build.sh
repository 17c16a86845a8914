# Makes one package: files and directories of every kind that a store path can hold.
set -e
busybox() { "$sh" "$@"; }
busybox mkdir -p "$out/bin" "$out/lib/a/deep/folder" "$out/empty" "$doc/share"
first=$((number * 100000))
busybox seq $first $((first + 3000)) >"$out/lib/small"
if [ $((number % 4)) = 0 ]; then
  busybox seq $first $((first + 60000)) >"$out/lib/large"
  busybox cp "$out/lib/large" "$out/lib/a/deep/folder/copy of large"
  busybox dd if=/dev/zero of="$out/lib/zeros" bs=1000 count=300 2>/dev/null
fi
: >"$out/lib/nothing"
echo "$salt" >"$out/lib/salt"
echo "$out" >"$out/lib/self"
for dep in $deps; do
  busybox ln -s "$dep/lib/small" "$out/lib/from-$(busybox basename "$dep")"
done
busybox ln -s ../nowhere "$out/lib/dangling"
printf '#!%s sh\necho package %s\n' "$sh" "$number" >"$out/bin/run"
busybox chmod +x "$out/bin/run"
echo "the same licence in every package" >"$doc/share/licence"
busybox head -c 9000 "$out/lib/small" >"$doc/share/manual"
