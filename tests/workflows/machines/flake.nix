# Three machines with modules in common, a package and a check of it: what a repository of NixOS machines looks like to a plan. The
# shell comes with the project; no network.
{
  inputs.words = {
    url = "path:@words@";
    flake = false;
  };

  outputs =
    { self, words }:
    let
      system = "@system@";
      # A path of its own, so that a change beside it changes nothing.
      sh = "${builtins.path { path = ./tools; name = "tools"; }}/busybox";

      build =
        name: text:
        derivation {
          inherit name system text;
          builder = sh;
          args = [ "sh" "-c" "echo $text > $out" ];
        };

      machine =
        name:
        let
          common = import ./modules/common.nix;
          host = import (./hosts + "/${name}/default.nix");
          # Of the input, only one machine has something.
          list = if name == "server" then builtins.readFile "${words}/list" else "";
        in
        {
          config.system.build.toplevel = build "system-${name}" "${host.motd} ${common.shared} ${list}";
        };

      tool = build "tool" (builtins.readFile ./package/text);
    in
    {
      nixosConfigurations = {
        desk = machine "desk";
        laptop = machine "laptop";
        server = machine "server";
      };
      packages.${system} = {
        inherit tool;
        default = tool;
      };
      checks.${system}.tool-works = build "tool-works" "${tool}";
    };
}
