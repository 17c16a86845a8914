# Runs as the builder of each package of the demo: makes files that differ from package to package.
set -e
busybox() { "$sh" "$@"; }
busybox mkdir -p "$out/bin" "$out/lib" "$doc/share/doc"
for part in 1 2 3 4; do
  first=$((number * 100000 + part * 20000))
  busybox seq $first $((first + 12000)) >"$out/lib/part-$part"
done
busybox head -c 60000 "$out/lib/part-1" >"$doc/share/doc/manual"
echo "the same licence in every package" >"$doc/share/doc/licence"
for dep in $deps; do
  busybox ln -s "$dep/lib/part-1" "$out/lib/from-$(busybox basename "$dep")"
done
if [ -n "$words" ]; then
  busybox cp "$words" "$out/lib/words"
fi
printf '#!%s sh\necho package %s\n' "$sh" "$number" >"$out/bin/run"
busybox chmod +x "$out/bin/run"
