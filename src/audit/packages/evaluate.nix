# All derivations that can be reached from a target by the attributes that they are made from, each with what it says of itself. One
# that cannot be evaluated (unfree, broken, insecure) is left out.
target:
let
  try =
    default: value:
    let
      result = builtins.tryEval value;
    in
    if result.success then result.value else default;
  deep = default: value: try default (builtins.deepSeq value value);
  plain = value: if builtins.isString value then builtins.unsafeDiscardStringContext value else null;
  isDerivation = value: try false (builtins.isAttrs value && (value.type or null) == "derivation");
  flat =
    value:
    if isDerivation value then
      [ value ]
    else if try false (builtins.isList value) then
      builtins.concatMap flat value
    else
      [ ];
  dependencies =
    drv:
    let
      attributes = try { } (drv.drvAttrs or { });
    in
    builtins.concatMap (name: try [ ] (flat attributes.${name})) (builtins.attrNames attributes);
  item =
    drv:
    let
      key = try null (plain drv.drvPath);
    in
    if key == null then [ ] else [ { inherit key drv; } ];
  license =
    value:
    if builtins.isString value then
      plain value
    else if builtins.isList value then
      map license value
    else if !builtins.isAttrs value then
      null
    else if value ? licenses then
      {
        operator = value.operator or "AND";
        licenses = map license value.licenses;
      }
    else if value ? license then
      {
        operator = value.operator or "";
        license = license value.license;
        exception = if value ? exception then license value.exception else null;
      }
    else
      {
        spdxId = value.spdxId or null;
        shortName = value.shortName or null;
      };
  outputs =
    drv: builtins.filter (path: path != null) (map (name: try null (plain drv.${name}.outPath)) (try [ ] (drv.outputs or [ "out" ])));
  describe =
    { key, drv }:
    let
      meta = try { } (drv.meta or { });
    in
    {
      outputs = outputs drv;
      pname = try null (plain (drv.pname or null));
      version = try null (plain (drv.version or null));
      license = deep null (license (meta.license or null));
      cpe = try null (plain (meta.identifiers.cpe or null));
      known = deep [ ] (builtins.filter builtins.isString (meta.knownVulnerabilities or [ ]));
    };
in
{
  derivation = plain target.drvPath;
  outputs = outputs target;
  packages = map describe (
    builtins.genericClosure {
      startSet = item target;
      operator = entry: builtins.concatMap item (dependencies entry.drv);
    }
  );
}
