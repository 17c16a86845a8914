# The builder, run by busybox. With a source it makes one package of it, without one the environment.
set -eu
tools=$NIX_BUILD_TOP/tools
"$sh" mkdir -p "$tools"
"$sh" --install -s "$tools"
export PATH=$tools

if [ -z "$source" ]; then
  mkdir -p "$out/bin" "$out/nix-support"
  for path in $(cat "$everythingPath"); do
    echo "$path" >>"$out/nix-support/paths"
    for program in "$path"/usr/bin/* "$path"/bin/*; do
      if [ -e "$program" ]; then ln -sf "$program" "$out/bin/"; fi
    done
  done
  exit 0
fi

cp -R "$source" "$out"
chmod -R u+w "$out"
move() { # move OUTPUT PLACE: makes an output of a part of the package
  eval "to=\${$1:-}"
  if [ -n "$to" ]; then
    mkdir -p "$to/${2%/*}"
    mv "$out/$2" "$to/$2"
  fi
}
move dev usr/include
move doc usr/share/doc
move man usr/share/man

mkdir -p "$out/nix-support/links"
echo "$needs" >"$out/nix-support/propagated-build-inputs"
libraries=$out/usr/lib
for need in $needs; do
  ln -s "$need" "$out/nix-support/links/"
  libraries=$libraries:$need/usr/lib
done
if [ -n "${dev:-}" ]; then echo "$out" >"$dev/usr/include/.propagated-by"; fi

# As a linker's RUNPATH does, every program and library names the package itself and what it needs.
find "$out" -type f \( -perm -100 -o -name '*.so' -o -name '*.so.*' \) | while read -r file; do
  echo "# RUNPATH $libraries" >>"$file"
done

# A change of the sources changes one file in four.
if [ "$revision" != 0 ]; then
  find "$out" ${dev:+"$dev"} -type f | sort | awk 'NR % 4 == 0' | while read -r file; do
    echo "# changed, revision $revision" >>"$file"
  done
fi
