# One state of the store: every package as a derivation, and an environment that links to all of them.
{
  # JSON: how often each package has been changed; those not named never were.
  revisions ? "{}",
  system,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    fromJSON
    mapAttrs
    readFile
    ;
  revision = fromJSON revisions;
  sh = "${./tools}/busybox";

  build =
    attributes:
    derivation (
      {
        inherit system sh;
        builder = sh;
        args = [
          "sh"
          ./build.sh
        ];
      }
      // attributes
    );

  packages = mapAttrs (
    name: package:
    build {
      name = "${name}-${package.version}";
      inherit (package) outputs;
      source = "/unpacked/${name}";
      needs = map (other: packages.${other}.out) package.needs;
      revision = toString (revision.${name} or 0);
    }
  ) (fromJSON (readFile ./packages.json));
in
build {
  name = "environment";
  source = "";
  everything = concatMap (name: map (output: packages.${name}.${output}) packages.${name}.outputs) (
    attrNames packages
  );
  passAsFile = [ "everything" ];
}
