# Ten machines over a common base: a module system in small (options, definitions of many modules, merging by priority, a fixed
# point), which takes several seconds for each machine, as NixOS does. No network; nothing is ever built of it.
{
  outputs =
    { self }:
    let
      inherit (builtins) attrNames concatLists concatStringsSep elemAt filter foldl' genList hashString head length listToAttrs map sort toString;
      system = "x86_64-linux";
      sh = "${builtins.path { path = ./builder; name = "builder"; }}";
      # How much there is: packages that all machines share, services with a unit each, and modules that define options of them.
      packages = 1500;
      services = 250;
      modules = 1800;

      build =
        name: text: inputs:
        derivation {
          inherit name system text inputs;
          builder = sh;
        };

      # Each package needs a few of those before it.
      package = genList (
        n: build "package-${toString n}" "package ${toString n}" (if n == 0 then [ ] else map (elemAt package) [ (n / 2) (n / 3) ])
      ) packages;

      range = genList (n: n);
      nameOf = n: "service-${toString n}";

      # A module says something of every third service.
      module = number: config: map (n: {
        option = nameOf n;
        priority = (number * 7 + n) - (number * 7 + n) / 100 * 100;
        value = "${hashString "sha256" "${toString number}-${toString n}"} ${if n == 0 then "" else config.${nameOf (n - 1)}.short}";
      }) (filter (n: (n + number) - (n + number) / 3 * 3 == 0) (range services));

      evalModules =
        extra:
        let
          config = listToAttrs (map (n: { name = nameOf n; value = merged (nameOf n); }) (range services));
          definitions = concatLists (map (number: module number config) (range modules)) ++ extra;
          merged =
            option:
            let
              mine = filter (definition: definition.option == option) definitions;
              ordered = sort (a: b: a.priority < b.priority) mine;
              text = concatStringsSep "\n" (map (definition: definition.value) ordered);
            in
            {
              inherit text;
              short = hashString "md5" (toString (length ordered) + option);
            };
        in
        config;

      machine =
        name:
        let
          host = import (./hosts + "/${name}.nix");
          config = evalModules (map (definition: { priority = 1000; } // definition) host);
          units = map (option: build "unit-${option}" config.${option}.text [ (elemAt package (length (attrNames config))) ]) (attrNames config);
          etc = build "etc" name units;
        in
        {
          config.system.build.toplevel = build "system-${name}" name ([ etc ] ++ package);
        };
    in
    {
      nixosConfigurations = listToAttrs (
        map (file: rec {
          name = head (builtins.match "(.*)\\.nix" file);
          value = machine name;
        }) (attrNames (builtins.readDir ./hosts))
      );
    };
}
