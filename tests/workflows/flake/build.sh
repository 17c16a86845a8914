# The builder of each package: files that differ from package to package, and a reference to another one.
set -e
"$sh" mkdir -p "$out/bin" "$out/lib"
"$sh" seq $((number * 10000)) $((number * 10000 + 4000)) >"$out/lib/numbers"
if [ -n "$dependency" ]; then
  "$sh" ln -s "$dependency/lib/numbers" "$out/lib/more"
fi
if [ -n "$words" ]; then
  "$sh" cp "$words" "$out/lib/words"
fi
printf '#!%s sh\necho package %s\n' "$sh" "$number" >"$out/bin/run"
"$sh" chmod +x "$out/bin/run"
