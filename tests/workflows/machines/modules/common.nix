{ shared = "1"; }
